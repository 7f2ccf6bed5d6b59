#define _GNU_SOURCE
#include "store.h"
#include "box.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

/*
 * A store of blocks, each compressed by itself with a dictionary: a sample of the very memory that is stored, without which a block
 * of 16 kB knows too little of it. Blocks lie one behind the other in memory that is only taken as it is written.
 */
#define LEVEL 3

struct place {
  uint64_t at : 40, length : 24; /* of BLOCK_BYTES: as it is */
};

struct store {
  unsigned char *bytes;
  uint64_t room, used, most;
  uint64_t dictionary_bytes; /* at the beginning */
  struct place *places;
  size_t count, places_room;
  ZSTD_CCtx *compress;
  ZSTD_CDict *compress_dictionary;
  ZSTD_DCtx *decompress;
  ZSTD_DDict *decompress_dictionary;
  unsigned char block[BLOCK_BYTES];
  size_t in_block; /* which one it is, + 1 */
};

struct store *open_store(uint64_t raw_bytes, uint64_t most_bytes) {
  struct store *store = calloc(1, sizeof *store);
  if (!store) fail("memory for a store");
  store->room = raw_bytes + (raw_bytes >> 4) + (4u << 20);
  store->most = most_bytes;
  store->bytes = mmap(NULL, store->room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (store->bytes == MAP_FAILED) fail("memory for a store");
  return store;
}

void set_dictionary(struct store *store, const void *sample, size_t bytes) {
  memcpy(store->bytes, sample, bytes);
  store->used = store->dictionary_bytes = bytes;
  store->compress = ZSTD_createCCtx();
  store->decompress = ZSTD_createDCtx();
  /* As mere bytes, whatever they look like; they stay where they are. */
  store->compress_dictionary =
      ZSTD_createCDict_advanced(store->bytes, bytes, ZSTD_dlm_byRef, ZSTD_dct_rawContent, ZSTD_getCParams(LEVEL, ZSTD_CONTENTSIZE_UNKNOWN, bytes), ZSTD_defaultCMem);
  store->decompress_dictionary = ZSTD_createDDict_advanced(store->bytes, bytes, ZSTD_dlm_byRef, ZSTD_dct_rawContent, ZSTD_defaultCMem);
  errno = 0;
  if (!store->compress || !store->decompress || !store->compress_dictionary || !store->decompress_dictionary) fail("memory for zstd");
}

int write_block(struct store *store, const unsigned char *block) {
  static unsigned char packed[BLOCK_BYTES + BLOCK_BYTES / 8 + 1024];
  if (store->count == store->places_room) {
    store->places_room = store->places_room ? 2 * store->places_room : 4096;
    store->places = realloc(store->places, store->places_room * sizeof *store->places);
    if (!store->places) fail("memory for a store");
  }
  size_t length = ZSTD_compress_usingCDict(store->compress, packed, sizeof packed, block, BLOCK_BYTES, store->compress_dictionary);
  if (ZSTD_isError(length) || length >= BLOCK_BYTES) length = BLOCK_BYTES;
  if (store->used + length > store->room || store->used + length > store->most) return 0;
  memcpy(store->bytes + store->used, length == BLOCK_BYTES ? block : packed, length);
  store->places[store->count++] = (struct place){.at = store->used, .length = length};
  store->used += length;
  return 1;
}

size_t block_count(const struct store *store) { return store->count; }
uint64_t store_bytes(const struct store *store) { return store->used + store->count * sizeof *store->places; }

void end_writing(struct store *store) {
  ZSTD_freeCCtx(store->compress);
  ZSTD_freeCDict(store->compress_dictionary);
  store->compress = NULL;
  store->compress_dictionary = NULL;
}

const unsigned char *read_block(struct store *store, size_t number) {
  errno = 0;
  if (number >= store->count) fail("a store has no block %zu", number);
  if (store->in_block == number + 1) return store->block;
  struct place place = store->places[number];
  if (place.length == BLOCK_BYTES) return store->bytes + place.at;
  store->in_block = 0;
  size_t got = ZSTD_decompress_usingDDict(store->decompress, store->block, BLOCK_BYTES, store->bytes + place.at, place.length, store->decompress_dictionary);
  if (got != BLOCK_BYTES) fail("block %zu of a store is spoilt: %s", number, ZSTD_isError(got) ? ZSTD_getErrorName(got) : "too short");
  store->in_block = number + 1;
  return store->block;
}
