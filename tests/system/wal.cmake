# Every byte of a small log flipped in turn; kill -9 at random moments; opening a large log. One thread: nothing for TSan to see.
foreach(name wal_flip wal_crash wal_large)
    ab_test(NAME ${name} SOURCES ${name}.c ${CMAKE_SOURCE_DIR}/tests/unit/test_wal_support.c LIBS ab_wal TIMEOUT 600
        LABELS no_tsan)
endforeach()
