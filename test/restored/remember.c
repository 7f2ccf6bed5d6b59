/*
 * A server that knows what every page of its memory must hold: `remember MEGABYTES`. A connection sends words, one line of them; each is
 * done and answered by a line "WORD BAD", the number of pages that hold something else afterwards (`check`; `quarter` and `eighth` look
 * at so much of them) or 0.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define WORDS (PAGE / sizeof(uint64_t))
enum { PARTS = 8 };
enum kind { PATTERN, ZERO, WRITTEN };

static unsigned char *parts[PARTS];
static size_t pages;         /* of a part */
static unsigned char *kinds; /* of every page */

static uint64_t word_of(size_t page, size_t at, enum kind kind) {
  uint64_t mixed = (page * WORDS + at + 1) * 0x9e3779b97f4a7c15ull;
  return kind == ZERO ? 0 : kind == WRITTEN ? ~(mixed ^ mixed >> 29) : mixed ^ mixed >> 29;
}

static void write_page(int part, size_t page, enum kind kind) {
  uint64_t *words = (uint64_t *)(parts[part] + page * PAGE);
  for (size_t at = 0; at < WORDS; at++) words[at] = word_of((size_t)part * pages + page, at, kind);
  kinds[(size_t)part * pages + page] = kind;
}

static size_t bad_pages_of(int parts_read) {
  size_t bad = 0;
  for (int part = parts_read - 1; part >= 0; part--)
    for (size_t page = pages; page-- > 0;) { /* from behind, against the order of the fill */
      const uint64_t *words = (const uint64_t *)(parts[part] + page * PAGE);
      size_t number = (size_t)part * pages + page, at = 0;
      while (at < WORDS && words[at] == word_of(number, at, kinds[number])) at++;
      bad += at < WORDS;
    }
  return bad;
}

static size_t bad_pages(void) { return bad_pages_of(PARTS); }

static void become_zero(int part, size_t step) {
  for (size_t page = 0; page < pages; page += step) kinds[(size_t)part * pages + page] = ZERO;
}

static unsigned char *map(void *at, int flags) {
  unsigned char *mapped = mmap(at, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (mapped == MAP_FAILED) abort();
  return mapped;
}

/* What another process sees: the memory is missing in both. */
static size_t fork_and_check(void) {
  int result[2], status;
  size_t bad = 0;
  if (pipe(result)) abort();
  pid_t child = fork();
  if (child == 0) {
    bad = bad_pages();
    _exit(write(result[1], &bad, sizeof bad) == sizeof bad ? 0 : 1);
  }
  size_t own = bad_pages();
  if (read(result[0], &bad, sizeof bad) != sizeof bad || waitpid(child, &status, 0) != child || status) bad = pages;
  close(result[0]);
  close(result[1]);
  return own + bad;
}

static size_t obey(const char *word) {
  if (!strcmp(word, "check")) return bad_pages();
  if (!strcmp(word, "quarter")) return bad_pages_of(PARTS / 4);
  if (!strcmp(word, "eighth")) return bad_pages_of(PARTS / 8);
  if (!strcmp(word, "fork")) return fork_and_check();
  if (!strcmp(word, "drop")) return become_zero(1, 1), madvise(parts[1], pages * PAGE, MADV_DONTNEED) ? 1 : 0;
  if (!strcmp(word, "replace")) return become_zero(2, 1), munmap(parts[2], pages * PAGE) || map(parts[2], MAP_FIXED_NOREPLACE) != parts[2];
  if (!strcmp(word, "move")) return (parts[3] = mremap(parts[3], pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, map(NULL, 0))) == MAP_FAILED;
  if (!strcmp(word, "write")) for (size_t page = 0; page < pages; page += 3) write_page(4, page, WRITTEN);
  if (!strcmp(word, "protect")) return (size_t)mprotect(parts[5] + pages / 2 * PAGE, PAGE, PROT_READ);
  if (!strcmp(word, "holes")) {
    become_zero(6, 5);
    for (size_t page = 0; page < pages; page += 5) if (madvise(parts[6] + page * PAGE, PAGE, MADV_DONTNEED)) return 1;
  }
  return 0;
}

int main(int count, char **arguments) {
  pages = (count > 1 ? strtoul(arguments[1], NULL, 10) : 64) * (1u << 20) / PAGE / PARTS;
  kinds = calloc(PARTS * pages, 1);
  for (int part = 0; part < PARTS; part++) {
    parts[part] = map(NULL, 0);
    for (size_t page = 0; page < pages; page++) write_page(part, page, PATTERN);
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) return 1;
  for (;;) {
    char line[256];
    int connection = accept(listener, 0, 0);
    ssize_t got = connection < 0 ? -1 : read(connection, line, sizeof line - 1);
    line[got > 0 ? got : 0] = 0;
    for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) dprintf(connection, "%s %zu\n", word, obey(word));
    close(connection);
  }
}
