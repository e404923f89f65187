"""Planted bugs of files: where they may be, what they keep, and what is wrong there."""

from __future__ import annotations

from mutant import mutant

FILES, FILESYSTEM = "csrc/files.c", "csrc/filesystem.c"
PLACES = "test_filesystems.py"

MUTANTS = [
    mutant(
        "A file that is to be made is made anywhere",
        "CASE 15",
        f"{PLACES}::test_where_it_is_refused[NFS]",
        (FILESYSTEM, "        place = folder;\n", ""),
    ),
    mutant(
        "A file is opened before its file system is looked at",
        "CASE 15",
        f"{PLACES}::test_where_it_is_refused[CIFS]",
        (
            FILES,
            """\
    int code = flags & EMBQ_OPEN_ANYWHERE ? 0 : filesystem_check(path);
    *out = NULL;
    if (code < 0) return code;
""",
            "    int code;\n    *out = NULL;\n",
        ),
        (
            FILES,
            "    if (*out != fresh) free(fresh);\n",
            """\
    if (*out != fresh) free(fresh);
    if (code == 0 && !(flags & EMBQ_OPEN_ANYWHERE)) code = filesystem_check(path);
""",
        ),
    ),
    mutant(
        "Who was refused is let in by another's leave",
        "CASE 15",
        f"{PLACES}::test_it_may_be_allowed",
        (
            FILES,
            "flags & EMBQ_OPEN_ANYWHERE ? 0",
            "guards || flags & EMBQ_OPEN_ANYWHERE ? 0",
        ),
    ),
]
