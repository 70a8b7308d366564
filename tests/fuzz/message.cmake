# Messages between multimaster cores. The corpus in corpus/message is small: one of each kind.
ab_fuzz(NAME message SOURCES message.c LIBS ab_replication ab_wal)
