/* Memory of a frozen instance, compressed: store.c. */
#ifndef EDGEPOINT_STORE_H
#define EDGEPOINT_STORE_H

#include <stddef.h>
#include <stdint.h>

/* What is compressed together, and given together. */
#define BLOCK_BYTES (16u << 10)

struct store;

struct store *open_store(uint64_t raw_bytes, uint64_t most_bytes);
/* Learns what the memory is like from a sample of it; then blocks can be written. */
void set_dictionary(struct store *store, const void *sample, size_t bytes);
/* Adds a block; false when there is no room for it. The blocks of a store are numbered from 0 on: the next one's number is block_count. */
int write_block(struct store *store, const unsigned char *block);
size_t block_count(const struct store *store);
/* Frees what only writing needs. */
void end_writing(struct store *store);
/* The block's bytes, until the next call. */
const unsigned char *read_block(struct store *store, size_t number);
uint64_t store_bytes(const struct store *store);

#endif
