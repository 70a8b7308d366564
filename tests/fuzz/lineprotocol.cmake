# Line protocol as clients send it, and payloads as peers send them.
ab_fuzz(NAME lineprotocol SOURCES lineprotocol.c LIBS anabranchd_points)
ab_fuzz(NAME lineprotocol_payload SOURCES lineprotocol_payload.c LIBS anabranchd_points)
