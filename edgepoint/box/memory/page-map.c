#define _GNU_SOURCE
#include "pages.h"
#include "../box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * What of a snapshot's memory comes later: read from CRIU's pagemap images (images/pagemap.proto). An image is two magic numbers,
 * then messages, each with its length in four bytes before it: a head that names the file of pages, then one for each run of pages.
 */
enum { PAGES_ID = 1 };                                                                  /* fields of pagemap_head */
enum { ADDRESS = 1, PAGES_IN_32_BITS = 2, IN_PARENT = 3, FLAGS = 4, PAGES = 5 };        /* of pagemap_entry */
enum { FLAG_PARENT = 1, FLAG_LAZY = 2, FLAG_PRESENT = 4 };
static const uint32_t magic[2] = {0x54564319, 0x56084025};

#define MOST_PAGEMAP_BYTES (64u << 20)

static void add_extent(struct extents *extents, size_t at, struct extent extent) {
  if (extents->count == extents->room) {
    extents->room = extents->room ? 2 * extents->room : 64;
    extents->list = realloc(extents->list, extents->room * sizeof extent);
    if (!extents->list) fail("memory for the page map");
  }
  memmove(extents->list + at + 1, extents->list + at, (extents->count - at) * sizeof extent);
  extents->list[at] = extent;
  extents->count++;
}

void copy_extents(struct extents *to, const struct extents *from) {
  *to = (struct extents){.count = from->count, .room = from->count};
  if (from->count == 0) return;
  to->list = malloc(from->count * sizeof *from->list);
  if (!to->list) fail("memory for the page map");
  memcpy(to->list, from->list, from->count * sizeof *from->list);
}

/* Adds one where none was; it becomes a part of the one before it when it goes on there, also in what it points to. */
void put_extent(struct extents *extents, struct extent extent) {
  size_t at = extent_after(extents, extent.start);
  struct extent *before = at > 0 ? &extents->list[at - 1] : NULL;
  if (before && before->end == extent.start && before->offset + (before->end - before->start) == extent.offset) before->end = extent.end;
  else add_extent(extents, at, extent);
}

size_t extent_after(const struct extents *extents, uint64_t address) {
  size_t low = 0, high = extents->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (extents->list[middle].end > address) high = middle;
    else low = middle + 1;
  }
  return low;
}

/* Forgets what lies from `start` up to `end`: it is there now, or will never be wanted. */
void cut_extents(struct extents *extents, uint64_t start, uint64_t end) {
  size_t first = extent_after(extents, start);
  if (first == extents->count || extents->list[first].start >= end) return;
  if (extents->list[first].start < start) {
    struct extent rest = extents->list[first];
    extents->list[first].end = start;
    first++;
    if (rest.end > end) {
      rest.offset += end - rest.start;
      rest.start = end;
      add_extent(extents, first, rest);
      return;
    }
  }
  size_t behind = first;
  while (behind < extents->count && extents->list[behind].end <= end) behind++;
  if (behind < extents->count && extents->list[behind].start < end) {
    extents->list[behind].offset += end - extents->list[behind].start;
    extents->list[behind].start = end;
  }
  memmove(extents->list + first, extents->list + behind, (extents->count - behind) * sizeof *extents->list);
  extents->count -= behind - first;
}

void move_extents(struct extents *extents, uint64_t from, uint64_t to, uint64_t length) {
  struct extents moving = {0};
  for (size_t at = extent_after(extents, from); at < extents->count && extents->list[at].start < from + length; at++) {
    struct extent extent = extents->list[at];
    if (extent.start < from) extent.offset += from - extent.start, extent.start = from;
    if (extent.end > from + length) extent.end = from + length;
    add_extent(&moving, moving.count, extent);
  }
  cut_extents(extents, from, from + length);
  cut_extents(extents, to, to + length);
  for (size_t at = 0; at < moving.count; at++) {
    struct extent extent = moving.list[at];
    extent.start = extent.start - from + to;
    extent.end = extent.end - from + to;
    add_extent(extents, extent_after(extents, extent.start), extent);
  }
  free(moving.list);
}

static unsigned char *read_whole(int folder, const char *name, size_t *size) {
  struct stat status;
  int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
  errno = fd < 0 ? errno : 0;
  if (fd < 0 || fstat(fd, &status) || status.st_size > MOST_PAGEMAP_BYTES) fail("the image %s", name);
  unsigned char *bytes = malloc((size_t)status.st_size + 1);
  if (!bytes || read(fd, bytes, (size_t)status.st_size) != status.st_size) fail("read the image %s", name);
  close(fd);
  *size = (size_t)status.st_size;
  return bytes;
}

/* The next message of an image, or NULL at its end. */
static const unsigned char *next_message(const unsigned char **at, const unsigned char *end, const unsigned char **message_end) {
  uint32_t length;
  if (end - *at < (ptrdiff_t)sizeof length) return NULL;
  memcpy(&length, *at, sizeof length);
  const unsigned char *message = *at + sizeof length;
  if (length > (size_t)(end - message)) return NULL;
  *message_end = *at = message + length;
  return message;
}

static void read_run(const unsigned char *at, const unsigned char *end, struct extents *lazy, uint64_t *offset) {
  uint64_t address = 0, pages = 0, flags = FLAG_PRESENT;
  struct field field;
  while (next_field(&at, end, &field)) {
    if (field.number == ADDRESS) address = field.value;
    if (field.number == PAGES || (field.number == PAGES_IN_32_BITS && pages == 0)) pages = field.value;
    if (field.number == FLAGS) flags = field.value;
    if (field.number == IN_PARENT && field.value) flags |= FLAG_PARENT;
  }
  errno = 0;
  if (flags & FLAG_PARENT || !(flags & FLAG_PRESENT)) fail("the page map speaks of another snapshot's pages");
  struct extent extent = {.start = address, .end = address + pages * PAGE_BYTES, .offset = *offset};
  *offset += pages * PAGE_BYTES;
  if (!(flags & FLAG_LAZY) || pages == 0) return;
  struct extent *last = lazy->count ? &lazy->list[lazy->count - 1] : NULL;
  if (last && last->end > extent.start) fail("the page map is out of order");
  if (last && last->end == extent.start && last->offset + (last->end - last->start) == extent.offset) last->end = extent.end;
  else add_extent(lazy, lazy->count, extent);
}

static void map_pages(int folder, unsigned id, uint64_t bytes, struct image *image) {
  char name[64];
  struct stat status;
  snprintf(name, sizeof name, "pages-%u.img", id);
  int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &status)) fail("the image %s", name);
  errno = 0;
  if ((uint64_t)status.st_size < bytes) fail("the image %s has %lld of %llu bytes", name, (long long)status.st_size, (unsigned long long)bytes);
  image->bytes = bytes ? mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0) : NULL;
  if (image->bytes == MAP_FAILED) fail("map the image %s", name);
  close(fd);
}

static void read_image(int folder, int pid, struct image *image) {
  char name[64];
  size_t size;
  struct field field;
  uint64_t offset = 0;
  unsigned id = 0;
  snprintf(name, sizeof name, "pagemap-%d.img", pid);
  unsigned char *whole = read_whole(folder, name, &size);
  const unsigned char *at = whole + sizeof magic, *end = whole + size, *message, *message_end;
  errno = 0;
  if (size < sizeof magic || memcmp(whole, magic, sizeof magic)) fail("the image %s is no page map", name);
  *image = (struct image){.pid = pid};
  if ((message = next_message(&at, end, &message_end)))
    while (next_field(&message, message_end, &field))
      if (field.number == PAGES_ID) id = (unsigned)field.value;
  while ((message = next_message(&at, end, &message_end))) read_run(message, message_end, &image->lazy, &offset);
  errno = 0;
  if (at != end) fail("the image %s is cut short", name);
  map_pages(folder, id, offset, image);
  free(whole);
}

/* Those of all processes of the snapshot in the folder. */
size_t read_images(int folder, struct image **images) {
  size_t count = 0;
  DIR *entries = fdopendir(folder);
  if (!entries) fail("read the folder of images");
  *images = NULL;
  for (struct dirent *entry; (entry = readdir(entries));) {
    int pid, length = 0;
    if (sscanf(entry->d_name, "pagemap-%d.img%n", &pid, &length) != 1 || length == 0 || entry->d_name[length]) continue;
    *images = realloc(*images, (count + 1) * sizeof **images);
    if (!*images) fail("memory for the page map");
    read_image(folder, pid, *images + count++);
  }
  closedir(entries);
  return count;
}
