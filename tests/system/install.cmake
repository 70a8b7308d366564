# An installed copy, only of a build that one would install.
if(NOT AB_SANITIZE AND AB_TOOLS)
    add_test(NAME install COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/install ${CMAKE_BINARY_DIR})
    set_tests_properties(install PROPERTIES TIMEOUT 180 LABELS system)
endif()
