# Buffers, frames, handshake, links.
ab_test(NAME test_buf SOURCES test_buf.c LIBS ab_transport ab_wal Threads::Threads LABELS unit ALLOC)
foreach(name frame life)
    ab_test(NAME test_transport_${name} SOURCES test_transport_${name}.c transport_node.c
        LIBS ab_transport ab_wal Threads::Threads LABELS unit ALLOC)
endforeach()
foreach(name link refuse race speed)
    ab_test(NAME test_transport_${name} SOURCES test_transport_${name}.c transport_node.c
        LIBS ab_transport ab_wal Threads::Threads LABELS unit)
endforeach()
ab_test(NAME test_relay SOURCES test_relay.c transport_node.c ${CMAKE_SOURCE_DIR}/tests/support/relay.c
    LIBS ab_transport ab_wal Threads::Threads LABELS unit)
if(AB_SANITIZE STREQUAL "thread")
    ab_test(NAME test_tsan_close SOURCES test_tsan_close.c LIBS PkgConfig::UV Threads::Threads LABELS unit)
endif()
