ab_test(NAME test_wal SOURCES test_wal.c test_wal_support.c LIBS ab_wal TIMEOUT 300)
ab_test(NAME test_block SOURCES test_block.c test_wal_support.c LIBS ab_wal)
