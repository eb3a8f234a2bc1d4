/* A row of a segment manifest in its two languages: the checkpoint store's and the segment store's, which do not know
 * each other. Field by field the same; the tail's bytes are borrowed either way. */
#ifndef FLOTILLA_BROKER_MANIFEST_H
#define FLOTILLA_BROKER_MANIFEST_H

#include "meta/meta.h"
#include "store/store.h"

struct meta_segment manifest_to_meta(const struct segment_row *row);
struct segment_row manifest_from_meta(const struct meta_segment *segment);

#endif
