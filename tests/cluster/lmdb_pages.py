"""Finding rows in the file of the checkpoint store, as LMDB lays it out."""
import struct

BLOCK = 4096
PAGE_HEADER, NODE_HEADER, LEAF = 16, 8, 2 # sizes, and a page's flag


def keys_of_leaves(data, prefix):
    """Where a key beginning with `prefix` stands in a leaf page: {place behind the prefix}. By the page's own table of
    nodes: three bytes of a short key are found by chance too, in a UUID or a checksum."""
    for page in range(0, len(data), BLOCK):
        flags, lower = struct.unpack_from('<HH', data, page + 10)
        if flags != LEAF:
            continue
        for slot in range(PAGE_HEADER, min(lower, BLOCK), 2):
            node, = struct.unpack_from('<H', data, page + slot)
            key = page + node + NODE_HEADER
            if data[key:key + len(prefix)] == prefix:
                yield key + len(prefix)
