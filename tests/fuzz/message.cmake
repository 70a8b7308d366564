# Messages between multimaster cores. The corpus in corpus/message is small: one of each kind, and points that lead to each end of a search.
ab_fuzz(NAME message SOURCES message.c LIBS ab_replication ab_wal)
