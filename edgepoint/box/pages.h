/* The pages server of a lazy restore: see pages.c. */
#ifndef EDGEPOINT_PAGES_H
#define EDGEPOINT_PAGES_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096u

/* A piece of an instance's memory that is still missing, and where in the image of pages its bytes lie. */
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
void copy_extents(struct extents *to, const struct extents *from);
size_t extent_after(const struct extents *extents, uint64_t address); /* the first that ends behind the address, or count */
void cut_extents(struct extents *extents, uint64_t start, uint64_t end);
void move_extents(struct extents *extents, uint64_t from, uint64_t to, uint64_t length);

/* pages.c */
void serve_pages(int listener, int first_pages_file, const struct image *images, size_t count);

#endif
