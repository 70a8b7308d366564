ab_test(NAME test_block SOURCES test_block.c test_wal_support.c LIBS ab_wal)
ab_test(NAME test_block_repeat SOURCES test_block_repeat.c test_wal_support.c LIBS ab_wal)
foreach(name test_wal_open test_wal test_wal_damage test_wal_space test_wal_forget test_wal_rewind)
    ab_test(NAME ${name} SOURCES ${name}.c test_wal_fixture.c test_wal_support.c LIBS ab_wal TIMEOUT 300)
endforeach()
ab_test(NAME test_wal_alloc SOURCES test_wal_alloc.c test_wal_support.c LIBS ab_wal ALLOC)
# Meets LMDB's system calls with functions of the same names, which it can only find if they are exported.
ab_test(NAME test_wal_faults SOURCES test_wal_faults.c test_wal_support.c LIBS ab_wal ${CMAKE_DL_LIBS})
set_target_properties(test_wal_faults PROPERTIES ENABLE_EXPORTS ON C_VISIBILITY_PRESET default)
