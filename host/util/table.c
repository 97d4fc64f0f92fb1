/* SPDX-License-Identifier: Apache-2.0 */
#include "util/table.h"

#include <string.h>
#include "base/alloc.h"
#include "util/strv.h"

#define GAP       4
#define MIN_WIDTH 4

struct table {
    size_t columns;
    struct strv cells; /* row by row, headers first */
};

struct table *table_new(const char *const *headers)
{
    struct table *table = xnew(struct table);

    while (headers[table->columns]) {
        strv_add(&table->cells, headers[table->columns++]);
    }
    return table;
}

void table_free(struct table *table)
{
    if (table) {
        strv_done(&table->cells);
        free(table);
    }
}

void table_row(struct table *table, const char *const *cells)
{
    for (size_t i = 0; i < table->columns; i++) {
        strv_add(&table->cells, cells[i]);
    }
}

/* Code points of UTF-8 text. */
static size_t text_width(const char *text)
{
    size_t width = 0;

    for (; *text; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static size_t column_width(const struct table *table, size_t column)
{
    size_t width = MIN_WIDTH - GAP;

    for (size_t i = column; i < table->cells.len; i += table->columns) {
        width = MAX(width, text_width(table->cells.items[i]));
    }
    return width + GAP;
}

void table_print(const struct table *table, FILE *out)
{
    scoped(free) size_t *widths = xnew_n(size_t, table->columns + 1);

    for (size_t c = 0; c < table->columns; c++) {
        widths[c] = column_width(table, c);
    }
    for (size_t i = 0; i < table->cells.len; i++) {
        const char *cell = table->cells.items[i];
        size_t c = i % table->columns;

        if (c + 1 == table->columns) {
            fprintf(out, "%s\n", cell);
        } else {
            fprintf(out, "%s%*s", cell, (int)(widths[c] - text_width(cell)), "");
        }
    }
}
