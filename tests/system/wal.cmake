# Every byte of a small log flipped in turn.
add_executable(wal_flip ${CMAKE_CURRENT_SOURCE_DIR}/wal_flip.c ${CMAKE_SOURCE_DIR}/tests/unit/test_wal_support.c)
target_link_libraries(wal_flip PRIVATE ab_wal)
add_test(NAME wal_flip COMMAND wal_flip)
set_tests_properties(wal_flip PROPERTIES TIMEOUT 600)
