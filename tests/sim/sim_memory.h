/* Memory that runs out: the n-th allocation of the product in a life fails, and a few behind it.
 *
 * The simulator is linked with --wrap for the allocators, so every call of the product's archives comes here; its own
 * sources are compiled with other names for them and never fail. Counted is only what the broker does, which is what
 * runs while world.inside is not 0 (world_enter). Where bookkeeping fails the product calls _exit: that ends the life
 * by a jump to the place set by sim_memory_home. A broker that left so cannot be freed; what it held is known and given
 * back by sim_memory_reclaim.
 *
 * The state is one for the process, since allocators have no context; one run at a time uses it. */
#ifndef FLOTILLA_SIM_MEMORY_H
#define FLOTILLA_SIM_MEMORY_H

#include <setjmp.h>

#include "sim.h"

void sim_memory_begin(struct sim_world *world);         /* of a run; forgets the one before */
void sim_memory_plan(uint64_t countdown, uint64_t run); /* for this life: that allocation fails, and run - 1 after it */
void sim_memory_calm(void);                             /* none fails any more */
bool sim_memory_failed(void);                           /* one did in this life */
void sim_memory_home(jmp_buf *home);                    /* where an _exit of the broker goes; NULL: nowhere */
void sim_memory_reclaim(void);                          /* the broker of this life is gone: all that it still held */
void sim_memory_new_life(void);
uint64_t sim_memory_calls(void); /* of this life */

#endif
