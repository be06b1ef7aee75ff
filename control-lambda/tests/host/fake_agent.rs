//! A stand-in for the agent: asks the runtime API for invocations, does what
//! their payload says, line by line, and sends what came of it over the gateway.
//! One file without dependencies, so that the tests can compile it statically by
//! themselves.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

unsafe extern "C" {
    fn posix_openpt(flags: i32) -> i32;
    fn grantpt(fd: i32) -> i32;
    fn unlockpt(fd: i32) -> i32;
    fn unshare(flags: i32) -> i32;
    fn setuid(uid: u32) -> i32;
    fn chmod(path: *const u8, mode: u32) -> i32;
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("allocate") {
        let mib = arguments.next().unwrap().parse().unwrap();
        allocate(mib);
        return;
    }
    if std::env::var("SOCKERLESS_NAMESPACE").is_ok_and(|seat| !seat.starts_with("agent:")) {
        // One of the two processes that wait for the real agent's word.
        loop {
            std::thread::park();
        }
    }
    println!("{{\"hello\":\"from the fake agent\"}}");
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    for served in 1.. {
        let mut connection = BufReader::new(TcpStream::connect(&api).unwrap());
        let next = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: x\r\n\r\n";
        connection.get_mut().write_all(next.as_bytes()).unwrap();
        let (headers, payload) = read_response(&mut connection);
        let id = headers
            .iter()
            .find_map(|(name, value)| (name == "lambda-runtime-aws-request-id").then_some(value))
            .unwrap();
        let payload = String::from_utf8(payload).unwrap();
        let mut report = format!("served {served}\n");
        let mut answer = ("response", "{}".to_owned());
        for line in payload.lines() {
            let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
            match command {
                "headers" => report += &format!("{headers:?}\n"),
                "flush" => tell(&std::mem::take(&mut report)),
                "answer-error" => answer = ("error", argument.to_owned()),
                _ => report += &format!("{line}: {}\n", obey(command, argument)),
            }
        }
        tell(&report);
        let (kind, body) = answer;
        let answer = format!(
            "POST /2018-06-01/runtime/invocation/{id}/{kind} HTTP/1.1\r\nhost: x\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        // In one piece, or Nagle's algorithm would hold the rest back.
        connection.get_mut().write_all(answer.as_bytes()).unwrap();
        read_response(&mut connection);
    }
}

fn tell(report: &str) {
    if let Ok(mut gateway) = TcpStream::connect("127.0.0.1:9002") {
        gateway.write_all(report.as_bytes()).unwrap();
    }
}

fn obey(command: &str, argument: &str) -> String {
    match command {
        "say" => {
            println!("{argument}");
            "said".into()
        }
        "read" => told(fs::read_to_string(argument)),
        "list" => told(fs::read_dir(argument).map(|entries| {
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names.join(" ")
        })),
        "write" => {
            let (path, text) = argument.split_once(' ').unwrap();
            told(fs::write(path, text))
        }
        "fill" => {
            let (path, mib) = argument.split_once(' ').unwrap();
            told(fill(path, mib.parse().unwrap()))
        }
        "environment" => format!("{:?}", std::env::vars().collect::<Vec<_>>()),
        "openpty" => {
            let fd = unsafe { posix_openpt(2) };
            let opened = fd >= 0 && unsafe { grantpt(fd) == 0 && unlockpt(fd) == 0 };
            if opened { "ok".into() } else { errno() }
        }
        "unshare-user" => checked(unsafe { unshare(0x1000_0000) }),
        "setuid" => checked(unsafe { setuid(argument.parse().unwrap()) }),
        "chmod" => checked(unsafe { chmod(format!("{argument}\0").as_ptr(), 0o777) }),
        "open-files" => {
            let mut files = Vec::new();
            while let Ok(file) = fs::File::open("/proc/self/stat") {
                files.push(file);
            }
            files.len().to_string()
        }
        "listen" => match TcpListener::bind(format!("0.0.0.0:{argument}")) {
            Ok(listener) => {
                std::mem::forget(listener);
                "ok".into()
            }
            Err(error) => error.to_string(),
        },
        "connect" => told(
            TcpStream::connect_timeout(&argument.parse().unwrap(), Duration::from_secs(5))
                .map(drop),
        ),
        "allocate" => {
            allocate(argument.parse().unwrap());
            "allocated".into()
        }
        "allocate-in-child" => {
            let child = Command::new("/proc/self/exe")
                .args(["allocate", argument])
                .status();
            format!("{child:?}")
        }
        "wait" => {
            std::thread::sleep(Duration::from_secs(argument.parse().unwrap()));
            "waited".into()
        }
        "children" => {
            for _ in 0..3 {
                Command::new("/proc/self/exe")
                    .args(["allocate", "1"])
                    .spawn()
                    .unwrap();
            }
            "started".into()
        }
        "exit" => std::process::exit(argument.parse().unwrap()),
        "abort" => std::process::abort(),
        other => format!("unknown command {other}"),
    }
}

fn told<T: std::fmt::Debug>(result: std::io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error {error}"),
    }
}

fn checked(result: i32) -> String {
    if result == 0 { "ok".into() } else { errno() }
}

fn errno() -> String {
    format!("error {}", std::io::Error::last_os_error())
}

fn fill(path: &str, mib: usize) -> std::io::Result<usize> {
    let mut file = fs::File::create(path)?;
    let block = vec![7; 1024 * 1024];
    for _ in 0..mib {
        file.write_all(&block)?;
    }
    Ok(mib)
}

fn allocate(mib: usize) {
    let mut kept = Vec::new();
    for _ in 0..mib {
        kept.push(vec![std::hint::black_box(1_u8); 1024 * 1024]);
    }
    std::hint::black_box(&kept);
    // As PID 1 is killed only with everything else, a child must stay to be seen.
    if mib == 1 {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn read_response(connection: &mut BufReader<TcpStream>) -> (Vec<(String, String)>, Vec<u8>) {
    let mut headers = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        connection.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            header => {
                if let Some((name, value)) = header.split_once(": ") {
                    headers.push((name.to_lowercase(), value.to_owned()));
                }
            }
        }
    }
    let length = headers
        .iter()
        .find_map(|(name, value)| (name == "content-length").then(|| value.parse().unwrap()))
        .unwrap_or(0);
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
    (headers, body)
}
