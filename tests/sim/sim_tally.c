/* The names of fault classes and checkers. */
#include "sim_tally.h"

#include "base/assert.h"

const char *sim_fault_name(enum sim_fault fault)
{
    static const char *const names[] = {
#define SIM_FAULT_TEXT(name, text) text,
        SIM_FAULT_TABLE(SIM_FAULT_TEXT) SIM_FLEET_FAULT_TABLE(SIM_FAULT_TEXT)
#undef SIM_FAULT_TEXT
    };
    ASSERT((unsigned)fault < FAULT_CLASSES_ALL);
    return names[fault];
}

const char *sim_judge_name(enum sim_judge judge)
{
    static const char *const names[] = {
#define SIM_JUDGE_TEXT(name, text) text,
        SIM_JUDGE_TABLE(SIM_JUDGE_TEXT) SIM_FLEET_JUDGE_TABLE(SIM_JUDGE_TEXT)
#undef SIM_JUDGE_TEXT
    };
    ASSERT((unsigned)judge < JUDGES_ALL);
    return names[judge];
}
