# Manual pages and completion.
if(AB_TOOLS)
    add_test(NAME manual COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/manual ${CMAKE_BINARY_DIR})
    set_tests_properties(manual PROPERTIES TIMEOUT 120 LABELS system)
endif()
