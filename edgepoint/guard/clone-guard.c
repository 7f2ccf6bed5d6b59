/*
 * Loaded into every dynamically linked program of an instance (ld.so(8), LD_PRELOAD), so that two clones of one template never draw
 * the same random values.
 *
 * Memory that is restored holds the state of random generators, and each clone would go on with it. What changes with each boot and
 * each restore is one file, written by edgepoint-box before the first instruction (files.c); this maps it. Whoever draws compares
 * one number in it with the one it saw last: no signal, no thread, and no moment between the restore and the first draw.
 *
 * - OpenSSL's generators (libcrypto's, and Node's own) ask for the process id at every draw, to notice a fork (openssl_get_fork_id in
 *   crypto/threads_pthread.c). getpid() therefore stands here: on a thread's first call after a restore it has the caller's OpenSSL
 *   reseed from the kernel (RAND_poll(3)) before it answers; each generator then renews itself, because its parent has.
 * - clone-guard.cjs (Node, Bun) reads the number as an ArrayBuffer; sitecustomize.py (Python) maps the file itself.
 * - Generators of the kernel need nothing: getrandom(2) in the vDSO, which keeps state in memory, is refused by the box (filter.c).
 *
 * It needs no library, not even libc, so that a program of another libc can load it: what it calls is found at run time or absent.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#define GENERATION_FILE "/run/edgepoint/generation"
#define GENERATION_BYTES 8 /* random: files.c */
#define CALLERS_MOST 8

typedef struct {
  const char *file;
  void *base;
  const char *symbol;
  void *address;
} Dl_info;

#define WEAK extern __attribute__((weak))
WEAK int dladdr(const void *, Dl_info *);
WEAK void *dlopen(const char *, int);
WEAK void *dlsym(void *, const char *);
WEAK int dlclose(void *);
#define RTLD_LAZY_NOLOAD (1 | 4)

static const volatile uint64_t *generation; /* NULL: not in an instance */
static uint64_t first;                      /* as this program began: nothing to renew while it stands */

static long call(long number, long a, long b, long c, long d, long e, long f) {
  long answer;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(answer) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return answer;
}

__attribute__((constructor)) static void map_generation(void) {
  long file = call(SYS_openat, -100 /* AT_FDCWD */, (long)GENERATION_FILE, 02000000 /* O_RDONLY | O_CLOEXEC */, 0, 0, 0);
  if (file < 0) return;
  long page = call(SYS_mmap, 0, 4096, 1 /* PROT_READ */, 1 /* MAP_SHARED */, file, 0);
  call(SYS_close, file, 0, 0, 0, 0, 0);
  if (page < 0 && page >= -4095) return;
  generation = (const volatile uint64_t *)page;
  first = *generation;
}

/* Where this thread has been asked from since a restore, and under which generation: a program may hold several copies of OpenSSL. */
static __thread struct {
  const void *caller;
  uint64_t seen;
} asked[CALLERS_MOST];
static __thread unsigned next_asked;
static __thread int inside;

/* Has the OpenSSL of the module that holds `caller`, if there is one, reseed: before the generator that asks goes on. */
static void renew(const void *caller, uint64_t now) {
  for (int i = 0; i < CALLERS_MOST; i++)
    if (asked[i].caller == caller && asked[i].seen == now) return;
  if (inside || !dladdr || !dlopen || !dlsym || !dlclose) return;
  inside = 1;
  Dl_info module, owner;
  if (dladdr(caller, &module)) {
    void *handle = dlopen(module.file, RTLD_LAZY_NOLOAD);
    /* dlopen(3) does not find the program itself by its name, but NULL means it. */
    if (!handle) handle = dlopen(NULL, RTLD_LAZY_NOLOAD);
    int (*poll)(void) = handle ? (int (*)(void))dlsym(handle, "RAND_poll") : NULL;
    if (poll && dladdr((const void *)poll, &owner) && owner.base == module.base) poll();
    if (handle) dlclose(handle);
  }
  asked[next_asked % CALLERS_MOST].caller = caller;
  asked[next_asked++ % CALLERS_MOST].seen = now;
  inside = 0;
}

__attribute__((visibility("default"))) int getpid(void) {
  uint64_t now = generation ? *generation : 0;
  if (now != first) renew(__builtin_return_address(0), now);
  return (int)call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

/*
 * The same file as a Node-API module, for clone-guard.cjs (https://nodejs.org/api/n-api.html; its types are opaque pointers here):
 * a function that has V8 and the C library give back the memory they do not use. V8 says so by Isolate::LowMemoryNotification
 * (v8-isolate.h); a gc() from JavaScript keeps its pages. The function's property `generation` is an ArrayBuffer over the generation.
 */
WEAK int napi_create_external_arraybuffer(void *environment, void *data, size_t bytes, void *finalize, void *hint, void **result);
WEAK int napi_create_function(void *environment, const char *name, size_t length, void *(*work)(void *, void *), void *data, void **result);
WEAK int napi_set_named_property(void *environment, void *object, const char *name, void *value);
WEAK void *_ZN2v87Isolate10GetCurrentEv(void);
WEAK void _ZN2v87Isolate21LowMemoryNotificationEv(void *isolate);
WEAK int malloc_trim(size_t);

static void *give_back_memory(void *environment, void *information) {
  (void)environment, (void)information;
  void *isolate = _ZN2v87Isolate10GetCurrentEv && _ZN2v87Isolate21LowMemoryNotificationEv ? _ZN2v87Isolate10GetCurrentEv() : NULL;
  if (isolate) _ZN2v87Isolate21LowMemoryNotificationEv(isolate);
  if (malloc_trim) malloc_trim(0);
  return NULL;
}

__attribute__((visibility("default"))) void *napi_register_module_v1(void *environment, void *exports) {
  void *buffer, *function;
  if (!generation || !napi_create_external_arraybuffer || !napi_create_function || !napi_set_named_property) return exports;
  if (napi_create_external_arraybuffer(environment, (void *)(uintptr_t)generation, GENERATION_BYTES, NULL, NULL, &buffer)) return exports;
  if (napi_create_function(environment, "giveBackMemory", (size_t)-1, give_back_memory, NULL, &function)) return exports;
  return napi_set_named_property(environment, function, "generation", buffer) ? exports : function;
}
