# Every byte of a small log flipped in turn; kill -9 at random moments. One thread: nothing for TSan to see.
foreach(name wal_flip wal_crash)
    ab_test(NAME ${name} SOURCES ${name}.c ${CMAKE_SOURCE_DIR}/tests/unit/test_wal_support.c LIBS ab_wal TIMEOUT 600
        LABELS no_tsan)
endforeach()
