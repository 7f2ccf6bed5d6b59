#define _GNU_SOURCE
#include "store.h"
#include "../box.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

/*
 * A store of blocks, each compressed by itself with a dictionary: a sample of the very memory that is stored, without which a block
 * of 16 kB knows too little of it. Blocks lie one behind the other in a file of memory, which is taken as it is written and can be
 * handed to another process.
 */
#define LEVEL 3

struct store {
  int file;
  unsigned char *bytes; /* the file, mapped: the dictionary, then the blocks */
  uint64_t room, most;
  struct store_head head;
  struct place *places;
  size_t places_room;
  ZSTD_CCtx *compress;
  ZSTD_CDict *compress_dictionary;
  ZSTD_DCtx *decompress;
  ZSTD_DDict *decompress_dictionary;
  unsigned char block[BLOCK_BYTES];
  size_t in_block; /* which one it is, + 1 */
};

static struct store *new_store(int file) {
  struct store *store = calloc(1, sizeof *store);
  if (!store || file < 0) fail("memory for a store");
  store->file = file;
  return store;
}

struct store *open_store(void) { return new_store(memfd_create("frozen", MFD_CLOEXEC)); }

/* The dictionaries point into the mapping. */
static void map(struct store *store, uint64_t room) {
  end_writing(store);
  ZSTD_freeDDict(store->decompress_dictionary);
  store->decompress_dictionary = NULL;
  if (store->bytes) munmap(store->bytes, store->room);
  store->room = room;
  store->bytes = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, store->file, 0);
  if (store->bytes == MAP_FAILED) fail("memory for a store");
}

void make_room(struct store *store, uint64_t raw_bytes, uint64_t most_bytes) {
  uint64_t room = store->head.used + raw_bytes + (raw_bytes >> 4) + (4u << 20);
  store->most = most_bytes;
  if (ftruncate(store->file, (off_t)room)) fail("memory for a store");
  map(store, room);
}

/* As mere bytes, whatever they look like; they stay where they are. */
static void begin_writing(struct store *store) {
  uint64_t bytes = store->head.dictionary_bytes;
  store->compress = ZSTD_createCCtx();
  store->compress_dictionary =
      ZSTD_createCDict_advanced(store->bytes, bytes, ZSTD_dlm_byRef, ZSTD_dct_rawContent, ZSTD_getCParams(LEVEL, ZSTD_CONTENTSIZE_UNKNOWN, bytes), ZSTD_defaultCMem);
  errno = 0;
  if (!store->compress || !store->compress_dictionary) fail("memory for zstd");
}

static void begin_reading(struct store *store) {
  if (!store->decompress) store->decompress = ZSTD_createDCtx();
  store->decompress_dictionary = ZSTD_createDDict_advanced(store->bytes, store->head.dictionary_bytes, ZSTD_dlm_byRef, ZSTD_dct_rawContent, ZSTD_defaultCMem);
  errno = 0;
  if (!store->decompress || !store->decompress_dictionary) fail("memory for zstd");
}

void set_dictionary(struct store *store, const void *sample, size_t bytes) {
  memcpy(store->bytes, sample, bytes);
  store->head.used = store->head.dictionary_bytes = bytes;
}

int write_block(struct store *store, const unsigned char *block) {
  static unsigned char packed[BLOCK_BYTES + BLOCK_BYTES / 8 + 1024];
  if (!store->compress) begin_writing(store);
  if (store->head.count == store->places_room) {
    store->places_room = store->places_room ? 2 * store->places_room : 4096;
    store->places = realloc(store->places, store->places_room * sizeof *store->places);
    if (!store->places) fail("memory for a store");
  }
  size_t length = ZSTD_compress_usingCDict(store->compress, packed, sizeof packed, block, BLOCK_BYTES, store->compress_dictionary);
  if (ZSTD_isError(length) || length >= BLOCK_BYTES) length = BLOCK_BYTES;
  if (store->head.used + length > store->room || store->head.used + length > store->most) return 0;
  memcpy(store->bytes + store->head.used, length == BLOCK_BYTES ? block : packed, length);
  store->places[store->head.count++] = (struct place){.at = store->head.used, .length = length};
  store->head.used += length;
  return 1;
}

size_t block_count(const struct store *store) { return store->head.count; }
uint64_t store_bytes(const struct store *store) { return store->head.used + store->head.count * sizeof *store->places; }

void end_writing(struct store *store) {
  ZSTD_freeCCtx(store->compress);
  ZSTD_freeCDict(store->compress_dictionary);
  store->compress = NULL;
  store->compress_dictionary = NULL;
}

const unsigned char *read_block(struct store *store, size_t number) {
  errno = 0;
  if (number >= store->head.count) fail("a store has no block %zu", number);
  if (store->in_block == number + 1) return store->block;
  if (!store->decompress_dictionary) begin_reading(store);
  struct place place = store->places[number];
  if (place.length == BLOCK_BYTES) return store->bytes + place.at;
  store->in_block = 0;
  size_t got = ZSTD_decompress_usingDDict(store->decompress, store->block, BLOCK_BYTES, store->bytes + place.at, place.length, store->decompress_dictionary);
  errno = 0;
  if (got != BLOCK_BYTES) fail("block %zu of a store is spoilt: %s", number, ZSTD_isError(got) ? ZSTD_getErrorName(got) : "too short");
  store->in_block = number + 1;
  return store->block;
}

uint64_t marked_bytes(const struct store *store, const size_t *marks) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < store->head.count; i++)
    if (marks[i]) bytes += store->places[i].length;
  return bytes;
}

/* Into another file: what lies in the old one goes with it, whoever still has it. */
void keep_blocks(struct store *store, size_t *marks) {
  uint64_t used = store->head.dictionary_bytes, room = used + marked_bytes(store, marks) + 1;
  int file = memfd_create("frozen", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, (off_t)room)) fail("memory for a store");
  unsigned char *bytes = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (bytes == MAP_FAILED) fail("memory for a store");
  memcpy(bytes, store->bytes, used);
  size_t count = 0;
  for (size_t i = 0; i < store->head.count; i++) {
    if (!marks[i]) continue;
    struct place place = store->places[i];
    memcpy(bytes + used, store->bytes + place.at, place.length);
    store->places[count] = (struct place){.at = used, .length = place.length};
    used += place.length;
    marks[i] = count++;
  }
  munmap(bytes, room);
  close(store->file);
  store->file = file;
  store->head.used = used;
  store->head.count = count;
  store->in_block = 0;
  map(store, room);
}

struct store_head head_of(const struct store *store) { return store->head; }
int file_of(const struct store *store) { return store->file; }
const struct place *places_of(const struct store *store) { return store->places; }

struct store *adopt_store(int file, struct store_head head, struct place *places) {
  struct store *store = new_store(file);
  store->head = head;
  store->places = places;
  store->places_room = head.count;
  map(store, head.used + 1);
  return store;
}

void close_store(struct store *store) {
  end_writing(store);
  ZSTD_freeDDict(store->decompress_dictionary);
  ZSTD_freeDCtx(store->decompress);
  munmap(store->bytes, store->room);
  close(store->file);
  free(store->places);
  free(store);
}
