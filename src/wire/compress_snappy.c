/* snappy, in two wrappings. snappy-java's, which Kafka's Java client writes: 8 bytes of magic, two version numbers,
 * then {length, raw block} until the end; all numbers big-endian. And one raw block, which librdkafka writes. A raw
 * block cannot begin like the magic: behind the size stands a copy, of which there is nothing yet to copy.
 *
 * libsnappy opens a block only into room for all that its head declares. The declaration is believed as far as snappy
 * can pack at all: three bytes stand for at most 64. */
#include <snappy-c.h>
#include <string.h>

#include "base/endian.h"
#include "wire/compress_impl.h"

#define MAGIC_BYTES       8u
#define JAVA_HEADER_BYTES 16u
#define LENGTH_BYTES      4u
/* Snappy looks back 64 KiB at most, so that larger blocks pack no better. Java's client makes them of 32 KiB. */
#define BLOCK_BYTES       (64u << 10)
#define EXPANSION_MAX     22u

static const uint8_t java_header[JAVA_HEADER_BYTES] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1};

static size_t snappy_bound(uint32_t from_bytes)
{
    uint32_t blocks = from_bytes / BLOCK_BYTES;
    return JAVA_HEADER_BYTES + blocks * (LENGTH_BYTES + snappy_max_compressed_length(BLOCK_BYTES)) + LENGTH_BYTES +
           snappy_max_compressed_length(from_bytes % BLOCK_BYTES);
}

static enum err snappy_pack(struct compressor *compressor, const uint8_t *from, uint32_t from_bytes, uint8_t *to,
                            uint32_t capacity, uint32_t *ret_size)
{
    uint32_t size_bytes = JAVA_HEADER_BYTES;
    memcpy(to, java_header, JAVA_HEADER_BYTES);
    for (uint32_t at = 0; at < from_bytes; at += BLOCK_BYTES) {
        uint32_t take = from_bytes - at < BLOCK_BYTES ? from_bytes - at : BLOCK_BYTES;
        size_t block_bytes = capacity - size_bytes - LENGTH_BYTES;
        if (snappy_compress((const char *)from + at, take, (char *)to + size_bytes + LENGTH_BYTES, &block_bytes) !=
            SNAPPY_OK)
            return ERR_TOO_LARGE;
        store_be32(to + size_bytes, (uint32_t)block_bytes);
        size_bytes += LENGTH_BYTES + (uint32_t)block_bytes;
    }
    *ret_size = size_bytes;
    return OK;
}

/* Opens one raw block behind what is there already. */
static enum err snappy_open_block(struct decompressor *decompressor, const uint8_t *from, uint32_t from_bytes,
                                  uint32_t bytes_max, uint32_t *produced)
{
    size_t size_bytes;
    if (snappy_uncompressed_length((const char *)from, from_bytes, &size_bytes) != SNAPPY_OK ||
        size_bytes > (uint64_t)from_bytes * EXPANSION_MAX)
        return ERR_CORRUPT_BATCH;
    if (size_bytes > bytes_max - *produced)
        return ERR_TOO_LARGE;
    uint64_t wanted_bytes = (uint64_t)*produced + size_bytes;
    if (wanted_bytes > decompressor->capacity) {
        uint64_t twice_bytes = 2 * (uint64_t)decompressor->capacity;
        if (!compress__grow(decompressor, wanted_bytes > twice_bytes ? wanted_bytes : twice_bytes, bytes_max))
            return ERR_NO_MEMORY;
    }
    if (snappy_uncompress((const char *)from, from_bytes, (char *)decompressor->data + *produced, &size_bytes) !=
        SNAPPY_OK)
        return ERR_CORRUPT_BATCH;
    *produced += (uint32_t)size_bytes;
    return OK;
}

static enum err snappy_open(struct decompressor *decompressor, const uint8_t *from, uint32_t from_bytes,
                            uint32_t bytes_max, uint32_t *ret_size)
{
    if (!compress__begin(decompressor, from_bytes, bytes_max))
        return ERR_NO_MEMORY;
    uint32_t produced = 0;
    enum err error = OK;
    if (from_bytes < MAGIC_BYTES || memcmp(from, java_header, MAGIC_BYTES) != 0) {
        error = snappy_open_block(decompressor, from, from_bytes, bytes_max, &produced);
    } else {
        if (from_bytes < JAVA_HEADER_BYTES)
            return ERR_CORRUPT_BATCH;
        /* The version numbers were never anything but 1, and no reader but Java's looks at them. */
        for (uint32_t at = JAVA_HEADER_BYTES; at < from_bytes && error == OK;) {
            if (from_bytes - at < LENGTH_BYTES || load_be32(from + at) > from_bytes - at - LENGTH_BYTES)
                return ERR_CORRUPT_BATCH;
            uint32_t block_bytes = load_be32(from + at);
            at += LENGTH_BYTES;
            error = snappy_open_block(decompressor, from + at, block_bytes, bytes_max, &produced);
            at += block_bytes;
        }
    }
    if (error == OK)
        *ret_size = produced;
    return error;
}

const struct compress_method compress__snappy = {snappy_bound, snappy_pack, snappy_open};
