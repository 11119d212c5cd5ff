//! A hub of the tests: an HTTP server on this machine that answers as it is told and remembers what it was asked.
#![allow(unreachable_pub, reason = "a module of one test")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    pub range: Option<u64>,
    pub token: Option<String>,
}

/// What is answered to a path.
#[derive(Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The connection breaks after so many bytes of the body; one for each request, then the whole comes.
    pub cuts: Vec<usize>,
    /// Whether requests for a part are heeded.
    pub ranges: bool,
}

/// The server; it lives as long as the test process.
pub struct Server {
    pub address: String,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { address, answers: Arc::default(), requests: Arc::default() };
        let (answers, requests) = (server.answers.clone(), server.requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, requests) = (answers.clone(), requests.clone());
                thread::spawn(move || serve(stream.unwrap(), &answers, &requests));
            }
        });
        server
    }

    pub fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_string(), answer);
    }

    pub fn change(&self, path: &str, change: impl FnOnce(&mut Answer)) {
        change(self.answers.lock().unwrap().get_mut(path).expect("a path that is answered"));
    }

    /// What was asked since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, answers: &Mutex<HashMap<String, Answer>>, requests: &Mutex<Vec<Request>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).expect("GET path HTTP/1.1").to_string();
    let mut request = Request { path, range: None, token: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("name: value");
        match name.to_lowercase().as_str() {
            "range" => {
                let from = value.strip_prefix("bytes=").and_then(|span| span.strip_suffix('-'));
                request.range = Some(from.expect("bytes=n-").parse().unwrap());
            }
            "authorization" => request.token = Some(value.to_string()),
            _ => {}
        }
    }
    requests.lock().unwrap().push(request.clone());
    let (answer, cut) = {
        let mut answers = answers.lock().unwrap();
        match answers.get_mut(&request.path) {
            Some(answer) => {
                let cut = if answer.cuts.is_empty() { None } else { Some(answer.cuts.remove(0)) };
                (answer.clone(), cut)
            }
            None => (Answer { status: 404, ..Answer::default() }, None),
        }
    };
    let total = answer.body.len();
    let (status, from) = match request.range {
        Some(from) if answer.ranges => (206, from as usize),
        _ => (answer.status, 0),
    };
    let mut head =
        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n", total - from);
    if status == 206 {
        head += &format!("content-range: bytes {from}-{}/{total}\r\n", total - 1);
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let end = cut.map_or(total, |cut| (from + cut).min(total));
    // A client that has seen enough may be gone.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&answer.body[from..end]);
}
