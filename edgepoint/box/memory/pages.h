/* Memory that an instance gets as it asks for it: see pages.c. */
#ifndef EDGEPOINT_PAGES_H
#define EDGEPOINT_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "store.h"

#define PAGE_BYTES 4096u

/* A piece of an instance's memory that is still missing, and where in the image of pages, or the store, its bytes lie. */
struct extent {
  uint64_t start, end; /* addresses in the instance; both of whole pages, start < end */
  uint64_t offset;     /* of `start` in the image */
};

/* Extents in the order of their addresses, none touching another's bytes. */
struct extents {
  struct extent *list;
  size_t count, room;
};

/* Memory as a snapshot holds it: one for each process (CRIU's pagemap-PID.img and its pages image). */
struct image {
  int pid; /* as the instance sees it */
  struct extents lazy;
  const unsigned char *bytes; /* the pages, mapped */
};

/* page-map.c */
size_t read_images(int folder, struct image **images);
void put_extent(struct extents *extents, struct extent extent);
void copy_extents(struct extents *to, const struct extents *from);
size_t extent_after(const struct extents *extents, uint64_t address); /* the first that ends behind the address, or count */
void cut_extents(struct extents *extents, uint64_t start, uint64_t end);
void move_extents(struct extents *extents, uint64_t from, uint64_t to, uint64_t length);

/* A process's memory, of which something is missing: it lies in an image of pages or in a store of blocks. */
struct memory {
  int uffd;
  const unsigned char *bytes;
  struct store *store;
  struct extents missing;
  int process; /* of a frozen instance, as we see it; 0 of one that was forked since */
};

extern struct memory *memories;
extern size_t memory_count;

/* pages.c */
struct memory *add_memory(int uffd, const unsigned char *bytes, struct store *store, const struct extents *missing);
void drop_memory(size_t index);
/* Hears what the kernel tells of any memory, for so long (as poll(2) counts) or until `others` descriptors behind it tell something. */
struct pollfd;
int hear_memories(struct pollfd *others, size_t count, int wait_ms);
int faults_wait(void);
uint64_t messages_heard(void);
void ask_again(void); /* whoever waits for a page: whoever else hears it now */
int fill(void);
/* Until then a mapping may be missing because CRIU has not handed it over. */
void no_more_mappings(void);
/* While it is we who have processes drop their memory, and nobody else can, that is no news. */
void hear_no_removals(int on);
void serve_pages(int listener, int first_pages_file, const struct image *images, size_t count);

/* pages-guard.c */
void keep_server_rights(void);
void keep_guard_rights(void);
void keep_pager_rights(void);

#endif
