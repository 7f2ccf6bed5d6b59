/* The pager of a frozen instance: pager.c. */
#ifndef EDGEPOINT_PAGER_H
#define EDGEPOINT_PAGER_H

#include "pages.h"
#include "store.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* take.c: what stopped processes have, and its way into the store */
void read_kept(const char *path);
void start_reader(void); /* before anything is held */
void end_reader(void);
/* The bytes that can be taken of all of them. */
uint64_t look_for_memory(void);
/* Takes all, or until the store is full or `go_on`, asked every few milliseconds, says no. What was dropped; `why` may get a reason for less. */
uint64_t take_memory(struct store *store, void (*begin_holding)(void), int (*go_on)(void), const char **why);
/* What the store is to learn from: pages from everywhere in so many bytes. */
void sample_memory(struct store *store, uint64_t bytes);
/* While something stopped is waited for, until the descriptor can be read: it may wait for memory, or for us to hear what it drops. */
void serve_meanwhile(int descriptor);

/* hand-over.c: from one pager to the next */
/* Gives all that is held to who asks; true when it has it. */
int hand_over(int connection, int held_file, struct store *store);
/* Takes over what the pager that listens at the path holds, from `begin_holding` on; NULL when there is none. */
struct store *take_over(const char *path, void (*begin_holding)(void), int *held_file);
int connect_or_listen(const char *path, int connecting); /* -1 when nobody listens */

#endif
