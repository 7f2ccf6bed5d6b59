/* The smallest server worth waking: answers every connection with two bytes. What is left of its wake is the engine's own cost. */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
  static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 64)) return 1;
  for (;;) {
    char request[4096];
    int connection = accept(listener, 0, 0);
    if (connection < 0) continue;
    if (read(connection, request, sizeof request) > 0 && write(connection, answer, strlen(answer)) < 0) return 1;
    close(connection);
  }
}
