// A Rust server for tests, on port 8080, one request a connection:
//
//   /count          one more each time, kept in memory
//   /random?count=N N lines, each two values of the kernel: of getrandom(2) and of /dev/urandom
//   /ticks          how often a thread that sleeps 20 ms has woken
//
// With the feature `own` the second value is thread_rng's, which keeps its state in memory of the thread.
use rand::{rngs::OsRng, RngCore};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread, time::Duration};

static COUNT: AtomicU64 = AtomicU64::new(0);
static TICKS: AtomicU64 = AtomicU64::new(0);

#[cfg(not(feature = "own"))]
fn second_value() -> u128 {
    let mut bytes = [0; 16];
    let mut file = std::fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut file, &mut bytes).unwrap();
    u128::from_le_bytes(bytes)
}

#[cfg(feature = "own")]
fn second_value() -> u128 {
    let mut bytes = [0; 16];
    rand::thread_rng().fill_bytes(&mut bytes);
    u128::from_le_bytes(bytes)
}

fn answer(path: &str) -> String {
    if let Some(count) = path.strip_prefix("/random?count=") {
        let mut lines = String::new();
        for _ in 0..count.parse().unwrap_or(0) {
            let mut bytes = [0; 16];
            OsRng.fill_bytes(&mut bytes);
            lines += &format!("{:032x} {:032x}\n", u128::from_le_bytes(bytes), second_value());
        }
        return lines;
    }
    match path {
        "/count" => format!("{}\n", COUNT.fetch_add(1, Ordering::SeqCst) + 1),
        "/ticks" => format!("{}\n", TICKS.load(Ordering::SeqCst)),
        _ => String::new(),
    }
}

fn serve(mut connection: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    while !lines.next().unwrap_or(Ok(String::new()))?.is_empty() {}
    let body = answer(first.split(' ').nth(1).unwrap_or(""));
    write!(connection, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{}", body.len(), body)
}

fn main() {
    if env::args().len() > 1 {
        println!("rand 0.8"); // Rust has no word for the compiler's version at run time
        return;
    }
    thread::spawn(|| loop {
        thread::sleep(Duration::from_millis(20));
        TICKS.fetch_add(1, Ordering::SeqCst);
    });
    // One thread answers all, so that thread_rng is the same thread's each time.
    for connection in TcpListener::bind("0.0.0.0:8080").unwrap().incoming().flatten() {
        let _ = serve(connection);
    }
}
