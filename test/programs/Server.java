import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/** A server for tests: each GET counts one further in memory, in a thread of its own and in a file, and answers `MEMORY THREAD FILE`. GET /ticks says how often its timer has fired. */
public final class Server {
  private static long inThread = 0;

  public static void main(String[] arguments) throws Exception {
    var count = new AtomicLong();
    var ticks = new AtomicLong();
    var worker = Executors.newSingleThreadExecutor();
    var counted = Path.of("/tmp/counted");
    Executors.newScheduledThreadPool(1).scheduleAtFixedRate(ticks::incrementAndGet, 10, 10, TimeUnit.MILLISECONDS);
    var server = HttpServer.create(new InetSocketAddress(8080), 0);
    server.setExecutor(Executors.newFixedThreadPool(4));
    server.createContext("/", exchange -> {
      try (exchange) {
        var memory = count.incrementAndGet();
        var thread = worker.submit(() -> ++inThread).get();
        Files.writeString(counted, "x", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        answer(exchange, memory + " " + thread + " " + Files.size(counted));
      } catch (Exception exception) {
        exception.printStackTrace();
      }
    });
    server.createContext("/ticks", exchange -> {
      try (exchange) {
        answer(exchange, "" + ticks.get());
      }
    });
    server.start();
  }

  private static void answer(HttpExchange exchange, String text) throws IOException {
    var bytes = text.getBytes();
    exchange.sendResponseHeaders(200, bytes.length);
    exchange.getResponseBody().write(bytes);
  }
}
