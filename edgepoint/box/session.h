/* The records of a session: kit/wire/session.ts has the same. One byte that says its kind, two for the length of what follows (big endian). */
#ifndef EDGEPOINT_SESSION_H
#define EDGEPOINT_SESSION_H

#define RECORD_HEAD 3
#define RECORD_BYTES 32768 /* behind the head, at most */

enum record {
  INPUT = 1,     /* to the command */
  INPUT_END = 2, /* no more of it */
  SIZE = 3,      /* of the terminal: rows, columns, two bytes each */
  OUTPUT = 16,   /* of the command */
  ERRORS = 17,   /* what it writes to stderr; never with a terminal */
  EXIT = 18,     /* the last: 0 and its exit status, or 1 and the signal that ended it */
  FAILED = 19,   /* the last: why it was not begun, as text */
};

#endif
