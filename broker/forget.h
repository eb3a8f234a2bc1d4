/* Taking deleted marks away. A mark must outlive what could bring its group back: its files, its rows and every record
 * of it in the WAL. When files and rows are gone, and the WAL begins behind the group's last record in the eyes of
 * every later start, nothing can, and the mark goes, with the registry's row about the group's leader. So the registry
 * holds marks of what was deleted lately, not of all that ever was.
 *
 * Loop thread. */
#ifndef FLOTILLA_BROKER_FORGET_H
#define FLOTILLA_BROKER_FORGET_H

#include <stdint.h>

struct broker;

void forget_add(struct broker *b, uint64_t group); /* files and rows of a deleted group are gone, durably */
void forget_turn(struct broker *b);                /* each turn */
void forget_free(struct broker *b);

#endif
