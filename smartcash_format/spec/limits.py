"""The bounds of format version 1, each with its reason (FORMAT.md, Bounds).

A reader checks them before anything is allocated; a writer refuses what its reader would refuse.
"""

from __future__ import annotations

from typing import Final

# A meta.json is about 2 KB and a listing reads thousands; a megabyte leaves room for a config.
META_BYTES: Final = 1 << 20
# About 250 bytes a tensor: 32 MiB are the 100,000 tensors allowed below, with long names.
TENSORS_BYTES: Final = 32 << 20
# 100,000 tensors at 160 bytes; safetensors itself reads up to 100 MB.
HEADER_BYTES: Final = 16 << 20
# An index maps each tensor's name to a file: smaller than tensors.json by construction.
INDEX_BYTES: Final = TENSORS_BYTES
# A mixture-of-experts model of a trillion parameters has about 60,000 tensors.
TENSORS: Final = 100_000
# torch itself stops at 64 dimensions.
DIMENSIONS: Final = 64
# Module paths of real models stay under 300 bytes.
NAME_BYTES: Final = 1_024
# Nobody nests a config this deep by hand; parsers recurse.
JSON_DEPTH: Final = 64
# 100,000 tensors with a dozen values each. Parsed, a value takes up to 64 bytes however short it
# was written: 32 MiB of "[]," would take 700 MB.
JSON_VALUES: Final = 2_000_000
# What every JSON reader with 64-bit integers can hold.
INTEGER_MIN: Final = -(1 << 63)
INTEGER_MAX: Final = (1 << 63) - 1
# The config is carried inside meta.json, which has META_BYTES in all.
CONFIG_BYTES: Final = 512 << 10
# Notes, tags and metrics share what the config leaves.
NOTES_BYTES: Final = 256 << 10
TAGS: Final = 100
METRICS: Final = 1_000
# A listing shows them in one cell.
SHORT_TEXT: Final = 256
# A value without a JSON form is kept as its repr, cut here: enough to recognise it.
REPR_CHARACTERS: Final = 200
# 5 TB of weights in shards of 5 GB, and the fixed files.
FILES: Final = 2_000
# One line of history: an event with paths and metrics; longer ones are not ours.
HISTORY_LINE_BYTES: Final = 64 << 10
# A hundred thousand saves of a few hundred bytes.
HISTORY_BYTES: Final = 64 << 20
# The same hundred thousand, each resumed once; a line can be four bytes long.
HISTORY_LINES: Final = 200_000
# PyYAML fails on keys over 1,024 characters; 256 keeps a table readable.
HISTORY_KEY_CHARACTERS: Final = 256
# A pin is a reason and a time.
PIN_BYTES: Final = 4 << 10
# 100,000 tensors in the pickle program of a torch file take 20 MB; the rest is the user's own.
PROGRAM_BYTES: Final = 64 << 20
# 40 opcodes for each of 25,000 tensors in an unusual form, and a list of a million numbers of the
# user's own. Each takes up to half a microsecond.
PROGRAM_OPCODES: Final = 1 << 21
# What a program makes, counted in bytes (spec/program_memory.py): 100,000 parameters with a tensor
# each, or a list of a million numbers. A program of 4 MB could make 64 MiB of empty containers.
PROGRAM_MEMORY: Final = 64 << 20
# Keys of dicts and members of sets that are neither text nor integers below TENSORS. Numbers and
# tuples can be chosen to have one hash, and then n of them take n * n steps: here a tenth of a
# second.
PROGRAM_KEYS: Final = 5_000
# Values reached from the program's result, shared ones counted each time: ten shared lists of ten
# shared lists, ten levels down, are 10^10 of them in 200 bytes.
PROGRAM_VALUES: Final = 1 << 22
# A state nests about 5 deep; whoever walks it recurses.
PROGRAM_DEPTH: Final = 64
# The state of a random generator is an integer of 125 bits.
PROGRAM_INTEGER_BITS: Final = 1_024
