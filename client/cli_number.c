/* Numbers, sizes, durations and points in time as people type them. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli.h"

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit byte_units[] = {
    {"", 1},          {"B", 1},        {"K", 1 << 10}, {"KiB", 1 << 10}, {"kB", 1000},       {"M", 1 << 20},
    {"MiB", 1 << 20}, {"MB", 1000000}, {"G", 1 << 30}, {"GiB", 1 << 30}, {"GB", 1000000000}, {"TiB", (int64_t)1 << 40},
};

static const struct unit time_units[] = {
    {"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}, {"w", 604800000},
};

bool cli_number_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (*text == '\0')
        return false;
    for (const char *at = text; *at != '\0'; at++) {
        if (*at < '0' || *at > '9' || __builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;
    }
    if (value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

uint64_t cli_number_option(const char *option, const char *text, uint64_t min, uint64_t max)
{
    uint64_t value = 0;
    if (!cli_number_u64(text, min, max, &value))
        cli_usage("%s takes a number from %llu to %llu, not '%s'", option, (unsigned long long)min,
                  (unsigned long long)max, text);
    return value;
}

/* Digits, perhaps with a fraction of which nine count, moved over: whole + part / parts. */
static bool take_decimal(const char **at, int64_t *ret_whole, int64_t *ret_part, int64_t *ret_parts)
{
    *ret_whole = *ret_part = 0;
    *ret_parts = 1;
    if (!isdigit((unsigned char)**at))
        return false;
    for (; isdigit((unsigned char)**at); (*at)++) {
        if (__builtin_mul_overflow(*ret_whole, (int64_t)10, ret_whole) ||
            __builtin_add_overflow(*ret_whole, (int64_t)(**at - '0'), ret_whole))
            return false;
    }
    if (**at != '.')
        return true;
    (*at)++;
    if (!isdigit((unsigned char)**at))
        return false;
    for (; isdigit((unsigned char)**at); (*at)++) {
        if (*ret_parts < 1000000000) {
            *ret_part = *ret_part * 10 + (**at - '0');
            *ret_parts *= 10;
        }
    }
    return true;
}

/* "<number>[ ]<unit>"; -1 stands for "no limit" wherever sizes and durations are asked for. Whole numbers are exact. */
static bool parse_with_unit(const char *text, const struct unit *units, size_t units_count, int64_t *ret_value)
{
    int64_t whole, part, parts, value;
    if (strcmp(text, "-1") == 0) {
        *ret_value = -1;
        return true;
    }
    if (!take_decimal(&text, &whole, &part, &parts))
        return false;
    text += strspn(text, " ");
    for (size_t i = 0; i < units_count; i++) {
        int64_t more = (int64_t)((double)part * (double)units[i].factor / (double)parts);
        if (strcmp(text, units[i].name) == 0 && !__builtin_mul_overflow(whole, units[i].factor, &value) &&
            !__builtin_add_overflow(value, more, &value)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

bool cli_number_bytes(const char *text, int64_t *ret_bytes)
{
    return parse_with_unit(text, byte_units, sizeof byte_units / sizeof byte_units[0], ret_bytes);
}

bool cli_number_ms(const char *text, int64_t *ret_ms)
{
    return parse_with_unit(text, time_units, sizeof time_units / sizeof time_units[0], ret_ms);
}

bool cli_number_seconds(const char *text, uint32_t *ret_ms)
{
    char *end;
    if (!isdigit((unsigned char)text[0]) && text[0] != '.')
        return false;
    double seconds = strtod(text, &end);
    if (*end != '\0' || seconds < 0.001 || seconds > 4000000)
        return false;
    *ret_ms = (uint32_t)(seconds * 1000);
    return true;
}

/* Exactly `digits` digits at *at; moves behind them. */
static bool take_digits(const char **at, int digits, int *ret_value)
{
    int value = 0;
    for (int i = 0; i < digits; i++) {
        if (!isdigit((unsigned char)(*at)[i]))
            return false;
        value = value * 10 + ((*at)[i] - '0');
    }
    *at += digits;
    *ret_value = value;
    return true;
}

static bool take_char(const char **at, const char *allowed)
{
    if (**at == '\0' || strchr(allowed, **at) == NULL)
        return false;
    (*at)++;
    return true;
}

/* Fraction of a second in ms; none is 0. */
static bool take_fraction(const char **at, int *ret_ms)
{
    int ms = 0;
    int weight = 100;
    if (**at == '.') {
        (*at)++;
        if (!isdigit((unsigned char)**at))
            return false;
        for (; isdigit((unsigned char)**at); (*at)++, weight /= 10)
            ms += (**at - '0') * weight;
    }
    *ret_ms = ms;
    return true;
}

/* "Z" or "+02:00", in seconds east of Greenwich. */
static bool take_zone(const char **at, int *ret_seconds)
{
    int hours, minutes;
    char sign = **at;
    *ret_seconds = 0;
    if (take_char(at, "Zz"))
        return true;
    if (!take_char(at, "+-") || !take_digits(at, 2, &hours) || !take_char(at, ":") || !take_digits(at, 2, &minutes))
        return false;
    *ret_seconds = (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    return true;
}

static bool parse_rfc3339(const char *at, int64_t *ret_ms)
{
    struct tm tm = {0};
    int ms, zone_seconds;
    if (!take_digits(&at, 4, &tm.tm_year) || !take_char(&at, "-") || !take_digits(&at, 2, &tm.tm_mon) ||
        !take_char(&at, "-") || !take_digits(&at, 2, &tm.tm_mday) || !take_char(&at, "Tt ") ||
        !take_digits(&at, 2, &tm.tm_hour) || !take_char(&at, ":") || !take_digits(&at, 2, &tm.tm_min) ||
        !take_char(&at, ":") || !take_digits(&at, 2, &tm.tm_sec) || !take_fraction(&at, &ms) ||
        !take_zone(&at, &zone_seconds) || *at != '\0')
        return false;
    if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 ||
        tm.tm_sec > 60)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *ret_ms = ((int64_t)timegm(&tm) - zone_seconds) * 1000 + ms;
    return true;
}

bool cli_number_time(const char *text, int64_t now_ms, int64_t *ret_ms)
{
    uint64_t unix_ms;
    int64_t ago_ms;
    if (cli_number_u64(text, 0, INT64_MAX, &unix_ms)) {
        *ret_ms = (int64_t)unix_ms;
        return true;
    }
    if (text[0] == '-' && isdigit((unsigned char)text[1]) && cli_number_ms(text + 1, &ago_ms)) {
        *ret_ms = now_ms > ago_ms ? now_ms - ago_ms : 0;
        return true;
    }
    return parse_rfc3339(text, ret_ms);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t cli_unescape(char *text)
{
    static const char names[] = "ntr0\\";
    static const char values[] = {'\n', '\t', '\r', '\0', '\\'};
    char *to = text;
    for (char *at = text; *at != '\0'; at++) {
        const char *name = at[0] == '\\' && at[1] != '\0' ? strchr(names, at[1]) : NULL;
        if (name != NULL) {
            *to++ = values[name - names];
            at++;
        } else if (at[0] == '\\' && at[1] == 'x' && hex_digit(at[2]) >= 0 && hex_digit(at[3]) >= 0) {
            *to++ = (char)(hex_digit(at[2]) * 16 + hex_digit(at[3]));
            at += 3;
        } else {
            *to++ = *at;
        }
    }
    *to = '\0';
    return (size_t)(to - text);
}
