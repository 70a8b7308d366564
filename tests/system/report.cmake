# `anabranch report` on live nodes.
if(AB_TOOLS)
    ab_test(NAME test_report SOURCES test_report.c ${CMAKE_SOURCE_DIR}/tests/support/nodes.c
        ${CMAKE_SOURCE_DIR}/tests/support/sm.c ${CMAKE_SOURCE_DIR}/tests/support/markup_check.c
        LIBS ab_base ab_wal ab_replication ab_transport ab_engine LABELS system)
    target_compile_definitions(test_report PRIVATE ANABRANCH="$<TARGET_FILE:anabranch>")
    add_dependencies(test_report anabranch)
endif()
