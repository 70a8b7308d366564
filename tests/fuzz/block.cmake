ab_fuzz(NAME block SOURCES block.c LIBS ab_wal)
