# The handles of snapshot functions.
ab_test(NAME test_snapshot SOURCES test_snapshot.c ${CMAKE_SOURCE_DIR}/engine/snapshot.c LABELS unit)
