/* SPDX-License-Identifier: Apache-2.0 */
#include "image/kernel.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "image/scoped_archive.h"
#include "util/file.h"

#define KERNEL_MAX      (256u << 20)
#define STUB_MAX        (16u << 20)
#define SECTION_ALIGN   4096
#define XEN_NOTE_PVH    18         /* XEN_ELFNOTE_PHYS32_ENTRY */
#define BZIMAGE_MAGIC   0x53726448 /* "HdrS" */
#define BZIMAGE_PAYLOAD 0x0208     /* first protocol with payload_offset */

static uint32_t le32(const struct buf *b, size_t at)
{
    uint32_t v = 0;

    if (at + sizeof(v) <= b->len) {
        memcpy(&v, b->data + at, sizeof(v));
    }
    return le32toh(v);
}

static uint16_t le16(const struct buf *b, size_t at)
{
    return (uint16_t)(at + 2 <= b->len ? le32(b, at) : 0);
}

/* Unpacks @len bytes at @data into @out. */
static int unpack_memory(const char *data, size_t len, struct buf *out)
{
    scoped(archive_read_free) struct archive *a = archive_read_new();
    struct archive_entry *entry;

    archive_read_support_filter_all(a);
    archive_read_support_format_raw(a);
    if (archive_read_open_memory(a, data, len) != ARCHIVE_OK ||
        archive_read_next_header(a, &entry) != ARCHIVE_OK) {
        return -EINVAL;
    }
    for (;;) {
        void *room = buf_reserve(out, 1u << 20);
        la_ssize_t n = room ? archive_read_data(a, room, 1u << 20) : -1;

        if (n < 0) {
            /* Some packers leave the unpacked size behind the stream. */
            return out->len > 0 && room ? 0 : -EINVAL;
        }
        if (n == 0) {
            return 0;
        }
        buf_commit(out, (size_t)n);
    }
}

/* True when one of the notes at @at names the entry of a PVH guest. */
static bool notes_have_pvh(const struct buf *elf, size_t at, size_t len)
{
    size_t end = at + len;

    while (at + sizeof(Elf64_Nhdr) <= end) {
        Elf64_Nhdr note;

        memcpy(&note, elf->data + at, sizeof(note));
        at += sizeof(note);
        if (note.n_type == XEN_NOTE_PVH && note.n_namesz == 4 && at + 4 <= end &&
            !memcmp(elf->data + at, "Xen", 4)) {
            return true;
        }
        if (note.n_namesz > end - at || note.n_descsz > end - at) {
            return false;
        }
        at += (note.n_namesz + 3u) / 4 * 4 + (note.n_descsz + 3u) / 4 * 4;
    }
    return false;
}

static bool elf_is_pvh(const struct buf *elf)
{
    Elf64_Ehdr head;

    if (elf->len < sizeof(head)) {
        return false;
    }
    memcpy(&head, elf->data, sizeof(head));
    if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
        head.e_phentsize != sizeof(Elf64_Phdr) || head.e_phoff > elf->len ||
        (elf->len - head.e_phoff) / sizeof(Elf64_Phdr) < head.e_phnum) {
        return false;
    }
    for (size_t i = 0; i < head.e_phnum; i++) {
        Elf64_Phdr segment;

        memcpy(&segment, elf->data + head.e_phoff + i * sizeof(segment), sizeof(segment));
        if (segment.p_type == PT_NOTE && segment.p_offset <= elf->len &&
            segment.p_filesz <= elf->len - segment.p_offset &&
            notes_have_pvh(elf, segment.p_offset, segment.p_filesz)) {
            return true;
        }
    }
    return false;
}

int kernel_extract_elf(const char *bzimage, const char *out, struct error *err)
{
    scoped(buf_done) struct buf image = BUF_INIT;
    scoped(buf_done) struct buf elf = BUF_INIT_CAP(KERNEL_MAX);
    size_t setup, start, len;
    int r = file_read(bzimage, KERNEL_MAX, &image, err);

    if (r < 0) {
        return r;
    }
    if (le32(&image, 0x202) != BZIMAGE_MAGIC || le16(&image, 0x206) < BZIMAGE_PAYLOAD) {
        return 1;
    }
    setup = (unsigned char)image.data[0x1f1];
    start = ((setup ? setup : 4) + 1) * 512 + le32(&image, 0x248);
    len = le32(&image, 0x24c);
    if (start > image.len || len > image.len - start ||
        unpack_memory(image.data + start, len, &elf) < 0 || !elf_is_pvh(&elf)) {
        return 1;
    }
    return file_write(out, elf.data, elf.len, 0644, err);
}

/* First free address behind the sections of a PE file, as objcopy counts it; 0 if it is none. */
static uint64_t pe_end(const struct buf *pe)
{
    size_t head = le32(pe, 0x3c), optional = head + 24, table;
    unsigned count = le16(pe, head + 6);
    uint64_t base, end = 0;

    if (le32(pe, head) != 0x4550 || le16(pe, optional) != 0x20b) { /* "PE", PE32+ */
        return 0;
    }
    base = le32(pe, optional + 24) | (uint64_t)le32(pe, optional + 28) << 32;
    table = optional + le16(pe, head + 20);
    for (unsigned i = 0; i < count; i++) {
        size_t at = table + (size_t)i * 40;
        uint64_t last = (uint64_t)le32(pe, at + 12) + MAX(le32(pe, at + 8), le32(pe, at + 16));

        end = MAX(end, last);
    }
    return end ? base + end : 0;
}

int kernel_uki_argv(const char *stub, const char *osrel, const char *cmdline, const char *initrd,
                    const char *kernel, const char *out, struct strv *ret, struct error *err)
{
    /* The kernel is last: the firmware may let it grow in place. */
    const char *const sections[][2] = {
        {".osrel", osrel}, {".cmdline", cmdline}, {".initrd", initrd}, {".linux", kernel}};
    scoped(buf_done) struct buf pe = BUF_INIT;
    uint64_t at;
    int r = file_read(stub, STUB_MAX, &pe, err);

    if (r < 0) {
        return r;
    }
    at = pe_end(&pe);
    if (at == 0) {
        return error_set(err, EINVAL, "'%s' is not a 64-bit EFI executable", stub);
    }
    strv_add(ret, "objcopy");
    for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
        struct stat st;

        if (stat(sections[i][1], &st) < 0) {
            return error_errno(err, errno, "reading '%s'", sections[i][1]);
        }
        at = (at + SECTION_ALIGN - 1) / SECTION_ALIGN * SECTION_ALIGN;
        strv_addf(ret, "--add-section=%s=%s", sections[i][0], sections[i][1]);
        strv_addf(ret, "--change-section-vma=%s=%#llx", sections[i][0], (unsigned long long)at);
        at += (uint64_t)st.st_size;
    }
    strv_add(ret, stub);
    strv_add(ret, out);
    return 0;
}
