/* What a running disk does wrong: calls that fail, reads that bring other bytes than were written, sectors that cannot
 * be read any more, time. Nothing here changes what is stored. sim_disk asks before or after each of its calls.
 *
 * Segments (parts/) may err in every way: whatever a read brings, what is served has to be right or CORRUPT, and of an
 * error nobody else may notice. The log and the names err rarely and by honest errors only, for which the process may
 * end: with a single replica, log bytes that lie are lost records and not a fault that could be survived. */
#ifndef FLOTILLA_SIM_MEDIA_H
#define FLOTILLA_SIM_MEDIA_H

#include "sim.h"
#include "sim_tree.h"

#define MEDIA_LATENT_MAX 8

struct sim_media_options {
    double read_error;    /* chance of a read; of segments, elsewhere a fraction of it */
    double write_error;   /* chance of a write or truncation, in the same way */
    double name_error;    /* chance of a rename, unlink, make_dir, remove_dir */
    double misread;       /* chance that a read of a segment brings wrong bytes, once */
    double latent;        /* chance that a read of a segment meets a sector that is unreadable until it is written */
    double files_error;   /* chance that an open of a segment finds no descriptor */
    double kv_full;       /* chance that a row or commit of the checkpoint store finds no room */
    double kv_error;      /* chance that one of its commits fails, for which the process has to end */
    uint64_t call_us_max; /* drawn for each call inside a job; 0: calls take no time of their own */
    uint64_t excuse_us;   /* how long after bad bytes CORRUPT is an honest answer */
};

struct sim_media_latent {
    struct inode *inode; /* one reference; NULL: none */
    uint64_t sector;
};

struct sim_media {
    struct sim_world *world;
    struct sim_media_options options;
    struct sim_media_latent latent[MEDIA_LATENT_MAX];
    bool is_due[FAULT_CLASSES]; /* the next call of a segment (or of the store) that can suffer it does */
    bool broke;                 /* a failure that may end the process happened in this life */
    bool erred;                 /* one that may end a start */
};

void sim_media_init(struct sim_media *media, struct sim_world *world);
void sim_media_draw(struct sim_media *media, const bool faults[FAULT_CLASSES]); /* rates of a run */
/* Each fault that is on comes at least so often that a run of some minutes sees it. */
void sim_media_raise(struct sim_media *media);
void sim_media_calm(struct sim_media *media);     /* no faults from now on, and every sector reads again */
void sim_media_forget(struct sim_media *media);   /* its sectors are gone, with all that could not be read */
void sim_media_new_life(struct sim_media *media); /* broke, erred: false */

/* Each returns OK or the error of the call. */
enum err sim_media_open(struct sim_media *media, const char *path);
enum err sim_media_name(struct sim_media *media, const char *path);
enum err sim_media_write(struct sim_media *media, const char *path, struct inode *inode, uint64_t offset,
                         uint64_t size);
/* Before a read of so many bytes; and, if it was OK, behind it: may change data[0, size). */
enum err sim_media_read(struct sim_media *media, const char *path, struct inode *inode, size_t size, uint64_t offset);
void sim_media_spoil(struct sim_media *media, const char *path, struct inode *inode, uint8_t *data, size_t size,
                     uint64_t offset);
/* Of the checkpoint store; point: as in sim_kv.h. */
enum err sim_media_kv(struct sim_media *media, const char *point);
uint64_t sim_media_call_us(struct sim_media *media); /* how long the next call takes */

#endif
