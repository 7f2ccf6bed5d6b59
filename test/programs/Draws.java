import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.UUID;
import java.util.function.Supplier;

/** Draws random values for tests: a POST of `NAME COUNT` answers {"ok": [...]}. Port 8080. */
class Draws {
  static final SecureRandom secure = new SecureRandom();

  static String draw(String name) throws Exception {
    return switch (name) {
      case "SecureRandom" -> {
        byte[] bytes = new byte[16];
        secure.nextBytes(bytes);
        yield HexFormat.of().formatHex(bytes);
      }
      case "UUID" -> UUID.randomUUID().toString();
      default -> throw new IllegalArgumentException(name);
    };
  }

  public static void main(String[] arguments) throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress(8080), 0);
    server.createContext("/", exchange -> {
      String[] words = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8).split(" ");
      StringBuilder text = new StringBuilder("{\"ok\":[");
      try {
        for (int i = 0; i < Integer.parseInt(words[1]); i++) text.append(i == 0 ? "\"" : ",\"").append(draw(words[0])).append('"');
        text.append("]}");
      } catch (Exception failure) {
        text = new StringBuilder("{\"error\":\"" + failure + "\"}");
      }
      byte[] answer = text.toString().getBytes(StandardCharsets.UTF_8);
      exchange.sendResponseHeaders(200, answer.length);
      exchange.getResponseBody().write(answer);
      exchange.close();
    });
    server.start();
  }
}
