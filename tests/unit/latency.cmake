ab_test(NAME test_latency SOURCES test_latency.c LIBS ab_base ab_wal ab_replication ab_transport ab_engine LABELS unit)
ab_test(NAME test_linger SOURCES test_linger.c LIBS ab_base ab_wal ab_replication ab_transport ab_engine LABELS unit)
