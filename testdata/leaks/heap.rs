// Programs whose verdict is known, in Rust: heap MODE SECONDS [A].
//
// vec    leak: A KiB a second of boxed slices in a Vec
// forget leak: A KiB a second through mem::forget
// churn  no leak: strings and maps of up to A MiB come and go
use std::collections::HashMap;
use std::time::{Duration, Instant};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let length: f64 = args[2].parse().unwrap();
    let a: f64 = args.get(3).map_or(1.0, |s| s.parse().unwrap());
    let begun = Instant::now();
    let mut kept: Vec<Box<[u8]>> = Vec::new();
    let mut map: HashMap<u64, String> = HashMap::new();
    let mut done = 0u64;
    loop {
        let t = begun.elapsed().as_secs_f64();
        if t >= length {
            break;
        }
        match args[1].as_str() {
            "vec" => {
                while (done as f64) < t * a {
                    kept.push(vec![1u8; 1000].into_boxed_slice());
                    done += 1;
                }
            }
            "forget" => {
                while (done as f64) < t * a {
                    std::mem::forget(std::hint::black_box(vec![1u8; 1000]));
                    done += 1;
                }
            }
            "churn" => {
                for _ in 0..100 {
                    done += 1;
                    map.insert(done * 7919 % 256, "x".repeat((done * 31 % (a as u64 * 4096)) as usize));
                }
            }
            _ => std::process::exit(2),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
