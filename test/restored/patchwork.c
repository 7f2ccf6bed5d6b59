/*
 * A server of many small mappings with protections and advice of their own, as a JavaScript heap has them: `patchwork [edge]`. A
 * connection sends anything and is told the number of mappings that hold something wrong. With `edge` it waits for connections with its
 * stack pointer at the edge of a page.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ul
enum { COUNT = 700, KINDS = 7, MOST_PAGES = 4 };
enum kind { PLAIN, NOT_FORKED, NOT_DUMPED, NEITHER, ONLY_READ, CLOSED, NEVER_WRITTEN };

static unsigned char *mapped[COUNT];

static enum kind kind_of(int number) { return number % 16 < 9 ? NOT_FORKED : (enum kind)(number % KINDS); } /* most in runs of one kind */
static size_t pages_of(int number) { return 1 + (size_t)number % MOST_PAGES; }
static int protection_of(enum kind kind) { return kind == CLOSED ? PROT_NONE : kind == ONLY_READ || kind == NEVER_WRITTEN ? PROT_READ : PROT_READ | PROT_WRITE; }
static uint64_t word_of(int number, size_t at) { return ((uint64_t)number * 8192 + at + 1) * 0x9e3779b97f4a7c15ull; }

static void make(int number, unsigned char *place) {
  enum kind kind = kind_of(number);
  size_t length = pages_of(number) * PAGE;
  uint64_t *words = mmap(place, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (words == MAP_FAILED) abort();
  mapped[number] = (unsigned char *)words;
  for (size_t at = 0; kind != NEVER_WRITTEN && at < length / sizeof *words; at++) words[at] = word_of(number, at);
  if ((kind == NOT_FORKED || kind == NEITHER) && madvise(words, length, MADV_DONTFORK)) abort();
  if ((kind == NOT_DUMPED || kind == NEITHER) && madvise(words, length, MADV_DONTDUMP)) abort();
  if (mprotect(words, length, protection_of(kind))) abort();
}

static int is_wrong(int number) {
  enum kind kind = kind_of(number);
  size_t length = pages_of(number) * PAGE, at = 0;
  const uint64_t *words = (const uint64_t *)mapped[number];
  if (kind == CLOSED && mprotect(mapped[number], length, PROT_READ)) abort();
  while (at < length / sizeof *words && words[at] == (kind == NEVER_WRITTEN ? 0 : word_of(number, at))) at++;
  if (kind == CLOSED && mprotect(mapped[number], length, PROT_NONE)) abort();
  return at < length / sizeof *words;
}

/* accept(2) with the stack pointer at the edge of a page: CRIU then takes every page for one of the stack. */
static int accept_at_edge(int listener) {
  long result;
  register long flags __asm__("r10") = 0;
  register void *kept __asm__("r12");
  __asm__ volatile("mov %%rsp, %[kept]\n\tsub $256, %%rsp\n\tand $-4096, %%rsp\n\tsyscall\n\tmov %[kept], %%rsp"
                   : "=a"(result), [kept] "=&r"(kept)
                   : "a"((long)SYS_accept), "D"((long)listener), "S"(0l), "d"(0l), "r"(flags)
                   : "rcx", "r11", "memory");
  return (int)result;
}

int main(int count, char **arguments) {
  int edge = count > 1 && !strcmp(arguments[1], "edge");
  unsigned char *place = mmap(NULL, COUNT * 2 * MOST_PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED || munmap(place, COUNT * 2 * MOST_PAGES * PAGE)) return 1;
  for (int number = 0; number < COUNT; number++) make(number, place + (size_t)number * 2 * MOST_PAGES * PAGE);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) return 1;
  for (;;) {
    char line[256];
    int wrong = 0, connection = edge ? accept_at_edge(listener) : accept(listener, 0, 0);
    if (connection < 0 || read(connection, line, sizeof line) < 0) return 1;
    for (int number = 0; number < COUNT; number++) wrong += is_wrong(number);
    dprintf(connection, "%d wrong\n", wrong);
    close(connection);
  }
}
