/* The fault maker, a library to be preloaded: it counts every call that the product makes and that can fail, and lets
 * one of them fail. Whoever counts down (sweep.c, sweep.py) lets the first one fail, then the second ... until a run
 * passes untouched.
 *
 * Counted are calls from the program itself, and those that LMDB and libuv make for it; who called is seen by the
 * return address. Of each call its place is noted as a chain of return addresses, so that a failed pwritev can be told
 * apart by the line of the log, the segments or the checkpoint that asked for it. The program keeps its frame pointers
 * in every build; through LMDB and libuv, which have none, the unwinder finds the program's frames.
 *
 * Each function can fail in up to three ways: those a real system has for it. A short read or write is one of them. A
 * close never fails here: Linux frees the descriptor whatever it answers. */
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#include "faults_internal.h"

#define MODULES 3

PUBLIC void faults_use(struct fault_table *table);
PUBLIC void faults_product(int is_product);
PUBLIC void faults_world(unsigned world);
PUBLIC const char *faults_name(uint32_t function);
PUBLIC int faults_has_variant(uint32_t function, uint32_t variant);

#define FUNCTION_ROW(id, name, a, b, c) [FUNCTION_##id] = {name, {a, b, c}},
static const struct {
    const char *name;
    int ways[FAULT_VARIANTS];
} functions[] = {FUNCTION_TABLE(FUNCTION_ROW)};

struct range {
    uintptr_t base, from, to;
};

static struct {
    pthread_mutex_t mutex;
    struct fault_table *table;
    int is_product;
    unsigned world;
    struct range modules[MODULES];
} faults = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* --- who called --- */

static int on_module(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size, (void)context;
    int module = info->dlpi_name[0] == '\0'                    ? FAULT_MODULE_PROGRAM
                 : strstr(info->dlpi_name, "/liblmdb") != NULL ? FAULT_MODULE_LMDB
                 : strstr(info->dlpi_name, "/libuv") != NULL   ? FAULT_MODULE_UV
                                                               : -1;
    for (int i = 0; module >= 0 && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && (header->p_flags & PF_X)) {
            struct range *range = &faults.modules[module];
            range->base = info->dlpi_addr;
            range->from = info->dlpi_addr + header->p_vaddr;
            range->to = range->from + header->p_memsz;
        }
    }
    return 0;
}

static int module_of(uintptr_t address)
{
    for (int i = 0; i < MODULES; i++) {
        if (address >= faults.modules[i].from && address < faults.modules[i].to) {
            return i;
        }
    }
    return -1;
}

struct chain {
    struct fault_site *site;
    uint32_t count;
};

static bool chain_add(struct chain *chain, uintptr_t address)
{
    if (chain->count == FAULT_FRAMES || module_of(address) != FAULT_MODULE_PROGRAM)
        return false;
    chain->site->frames[chain->count++] = address - faults.modules[FAULT_MODULE_PROGRAM].base;
    return true;
}

static void chain_walk(struct chain *chain, const uintptr_t *frame)
{
    for (;;) {
        const uintptr_t *next = (const uintptr_t *)frame[0];
        if (next <= frame || (uintptr_t)next - (uintptr_t)frame > (1u << 20) || !chain_add(chain, next[1]))
            return;
        frame = next;
    }
}

/* Of all frames, those of the program that stand nearest to the library. */
static _Unwind_Reason_Code chain_on_frame(struct _Unwind_Context *context, void *argument)
{
    struct chain *chain = argument;
    bool is_added = chain_add(chain, _Unwind_GetIP(context));
    return is_added || chain->count == 1 ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

static void site_walk(struct fault_site *site, uintptr_t caller, const uintptr_t *frame)
{
    struct chain chain = {.site = site, .count = 1};
    site->frames[0] = caller - faults.modules[site->module].base;
    if (site->module == FAULT_MODULE_PROGRAM) {
        chain_walk(&chain, frame);
    } else {
        _Unwind_Backtrace(chain_on_frame, &chain);
    }
}

static uint32_t site_find(struct fault_table *table, const struct fault_site *wanted)
{
    uint32_t i = 0;
    while (i < table->sites_count &&
           (table->sites[i].frames[0] != wanted->frames[0] || table->sites[i].function != wanted->function ||
            memcmp(table->sites[i].frames, wanted->frames, sizeof wanted->frames) != 0)) {
        i++;
    }
    if (i == table->sites_count && i < FAULT_SITES_MAX) {
        table->sites[table->sites_count++] = *wanted;
    }
    return i < FAULT_SITES_MAX ? i : FAULT_SITES_MAX - 1;
}

int faults__verdict(enum function function, uintptr_t caller, const uintptr_t *frame)
{
    struct fault_table *table = faults.table;
    int module = table != NULL && faults.is_product ? module_of(caller) : -1;
    if (module < 0)
        return 0;
    int way = 0;
    struct fault_site site = {.module = (uint32_t)module, .function = function};
    site_walk(&site, caller, frame);
    pthread_mutex_lock(&faults.mutex);
    uint32_t found = site_find(table, &site);
    table->sites[found].calls++;
    if (table->calls < FAULT_CALLS_MAX) {
        table->functions[table->calls] = (uint8_t)function;
        table->sites_of_calls[table->calls] = (uint16_t)found;
    }
    bool is_site = table->fail_call != 0 && found == table->fail_site && table->sites[found].calls == table->fail_call;
    if (table->calls++ == table->fail_at || is_site) {
        way = functions[function].ways[table->variant];
        table->has_failed = way != 0;
        table->failed_site = found;
        table->sites[found].is_failed |= way != 0;
    }
    pthread_mutex_unlock(&faults.mutex);
    return way;
}

/* --- control --- */

/* A process that knows nothing of this (flotillad) gets its table by name, and all it does is the product's. */
__attribute__((constructor)) static void faults_init(void)
{
    const char *path = getenv("FLOTILLA_FAULTS");
    dl_iterate_phdr(on_module, NULL);
    if (path == NULL)
        return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    long memory = syscall(SYS_mmap, NULL, sizeof(struct fault_table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)0);
    if (fd < 0 || memory < 0) {
        _exit(97);
    }
    faults.is_product = 1;
    faults.table = (struct fault_table *)memory;
}

void faults_use(struct fault_table *table)
{
    faults.table = table;
}

void faults_product(int is_product)
{
    faults.is_product = is_product;
}

void faults_world(unsigned world)
{
    faults.world = world;
}

bool faults__is_world(enum fault_world what)
{
    return faults.is_product && (faults.world & what) != 0;
}

void faults__end_world(enum fault_world what)
{
    faults.world &= ~(unsigned)what;
}

const char *faults_name(uint32_t function)
{
    return function < FUNCTIONS ? functions[function].name : "?";
}

int faults_has_variant(uint32_t function, uint32_t variant)
{
    return function < FUNCTIONS && variant < FAULT_VARIANTS && functions[function].ways[variant] != 0;
}
