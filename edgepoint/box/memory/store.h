/* Memory of a frozen instance, compressed: store.c. */
#ifndef EDGEPOINT_STORE_H
#define EDGEPOINT_STORE_H

#include <stddef.h>
#include <stdint.h>

/* What is compressed together, and given together. */
#define BLOCK_BYTES (16u << 10)

struct store;

/* Where a block lies. */
struct place {
  uint64_t at : 40, length : 24; /* of BLOCK_BYTES: as it is */
};

/* What another process needs to know of a store, beside its file and its places. */
struct store_head {
  uint64_t used, dictionary_bytes, count;
};

struct store *open_store(void);
/* Lets it take so many bytes more, before compression, and hold so many in all. */
void make_room(struct store *store, uint64_t raw_bytes, uint64_t most_bytes);
/* Of an empty one: learns what memory is like from a sample of it. Only then can blocks be written. */
void set_dictionary(struct store *store, const void *sample, size_t bytes);
/* Adds a block; false when there is no room for it. Blocks are numbered from 0 on: the next one's number is block_count. */
int write_block(struct store *store, const unsigned char *block);
size_t block_count(const struct store *store);
/* Frees what only writing needs. */
void end_writing(struct store *store);
/* The block's bytes, until the next call. */
const unsigned char *read_block(struct store *store, size_t number);
uint64_t store_bytes(const struct store *store);

/* Keeps only the blocks that are marked, in their order, under new numbers, which take the place of the marks. */
void keep_blocks(struct store *store, size_t *marks);
uint64_t marked_bytes(const struct store *store, const size_t *marks);

struct store_head head_of(const struct store *store);
int file_of(const struct store *store);
const struct place *places_of(const struct store *store);
/* The store that another process has told of; the places become its own. */
struct store *adopt_store(int file, struct store_head head, struct place *places);
void close_store(struct store *store);

#endif
