# Buffers, frames, handshake, links.
ab_test(NAME test_buf SOURCES test_buf.c LIBS ab_transport Threads::Threads LABELS unit ALLOC)
