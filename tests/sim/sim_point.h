/* Fault points in a run: which of base/point.h's moments are reached, which end the process, which hold it up.
 *
 * A crash is planned per life, for the n-th visit of one of a few points; the rest of the code that stands behind the
 * point runs on in a dead world, as after a crash at an I/O call. A delay holds up what is visited: on a lane the job
 * takes longer, on the loop time goes on as if the process had not been given the processor. */
#ifndef FLOTILLA_SIM_POINT_H
#define FLOTILLA_SIM_POINT_H

#include "base/point.h"
#include "sim.h"
#include "sim_disk.h"

/* What happened at each point, summed over runs. */
struct sim_point_counts {
    uint32_t visits[POINTS];
    uint32_t crashes[POINTS];
    uint32_t delays[POINTS];
};

struct sim_points {
    struct sim_world *world;
    struct sim_disk *disk;
    uint32_t kinds; /* so many there are: POINTS_OF_ONE, unless the owner says POINTS */
    struct sim_point_counts counts;
    uint32_t crash_in[POINTS];   /* this life ends at so many more visits; 0: not here */
    double delay_chance[POINTS]; /* of a visit, all through the run */
    uint64_t delay_us_max;
};

const char *sim_point_name(enum point which);

void sim_points_init(struct sim_points *points, struct sim_world *world, struct sim_disk *disk);
void sim_points_plan_delays(struct sim_points *points); /* for the whole run */
void sim_points_plan_crash(struct sim_points *points);  /* for this life */
void sim_points_plan_soon(struct sim_points *points);   /* the same, at a point that it has come by before */
void sim_points_calm(struct sim_points *points);        /* from now on visits are counted only */

void sim_points_visit(struct sim_points *points, enum point which); /* for the hook of struct trace */

#endif
