/* System calls that the processes of an instance make for us: inject.c. */
#ifndef EDGEPOINT_INJECT_H
#define EDGEPOINT_INJECT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Called while something of a stopped process is waited for, until the descriptor can be read or a while has passed. */
typedef void (*meanwhile)(int descriptor);

/* Stops every thread of every process of the cgroup; NULL, or why not all can be. When all are, they die with this process. */
const char *stop_processes(const char *cgroup, meanwhile serve);
size_t stopped_processes(pid_t *processes, size_t most);
/* Lets them run on, as far as the freezer does. */
void release_stopped(void);
/* Those that could not be stopped, as soon as they are. */
void release_rest(void);

/* A thread of the process makes the calls until end_calls, and then goes on as if it had made none. NULL, or why that cannot be. */
const char *begin_calls(pid_t process);
const char *end_calls(void);
/* What the call returned, a negative error number among it; ESRCH also when the process has been killed meanwhile. */
long call(long number, uint64_t first, uint64_t second, uint64_t third);

#endif
