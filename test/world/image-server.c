/* The program of a test's image: says who it is, where it is and what it sees. Linked dynamically, as programs of images are. */
#include <grp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *known(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

static int there(const char *path) { return access(path, F_OK) == 0; }

int main(int count, char **words) {
  struct timespec begun, now;
  clock_gettime(CLOCK_MONOTONIC, &begun);
  do clock_gettime(CLOCK_MONOTONIC, &now);
  while ((now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 < 300);
  int on = 1, requests = 0, door = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080)};
  setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 64)) return 1;
  for (;;) {
    char request[4096], where[256], body[2048], answer[4096];
    int from = accept(door, NULL, NULL);
    if (from < 0) continue;
    if (read(from, request, sizeof request) > 0) {
      struct stat dev = {0};
      gid_t groups[8];
      int more = getgroups(8, groups), wrote = 0;
      FILE *note = fopen("/home/web/note", "w");
      if (note) wrote = fputs("x", note) >= 0, fclose(note);
      lstat("/dev", &dev);
      requests++;
      int length = snprintf(body, sizeof body,
          "{\"uid\":%u,\"gid\":%u,\"group\":%d,\"cwd\":\"%s\",\"word\":\"%s\",\"mark\":\"%s\",\"home\":\"%s\",\"port\":\"%s\",\"requests\":%d,"
          "\"wrote\":%d,\"devIsFolder\":%d,\"null\":%d,\"gone\":%d,\"changed\":%d,\"baseIsThere\":%d,\"secret\":%d,\"resolver\":%d}",
          getuid(), getgid(), more > 0 ? (int)groups[0] : -1, getcwd(where, sizeof where), count > 1 ? words[1] : "", known("MARK"), known("HOME"), known("PORT"), requests,
          wrote, S_ISDIR(dev.st_mode), there("/dev/null"), !there("/srv/app/gone"), there("/srv/app/second"), there("/usr/local/bin/node"), access("/run/secrets/KEY", R_OK) == 0, there("/etc/resolv.conf"));
      int whole = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s", length, body);
      if (write(from, answer, (size_t)whole) < 0) return 1;
    }
    close(from);
  }
}
