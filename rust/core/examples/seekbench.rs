use std::time::Instant;
use tocsin_core::indexer::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let threads: usize = a[2].parse().unwrap();
    let rounds: usize = a[3].parse().unwrap();
    let s: u64 = a.get(4).map_or(256 << 10, |s| s.parse().unwrap());
    let layer = std::fs::read(&a[1]).unwrap();
    let mut best = [f64::MAX; 2];
    let mut cpu = [f64::MAX; 2];
    for _ in 0..rounds {
        for (i, seek) in [None, Some(s)].into_iter().enumerate() {
            let t = Instant::now();
            let c = cpu_time::ProcessTime::now();
            let mut ix = LayerIndexer::new(IndexOptions {
                threads,
                seek_span_size: seek,
                ..IndexOptions::default()
            })
            .unwrap();
            layer.chunks(1 << 20).try_for_each(|p| ix.push(p)).unwrap();
            let r = ix.finish().unwrap();
            best[i] = best[i].min(t.elapsed().as_secs_f64());
            cpu[i] = cpu[i].min(c.elapsed().as_secs_f64());
            if let Some(l) = r.seek {
                if rounds > 0 {
                    eprint!("blob {} ", l.blob().len());
                    eprintln!("{}", tocsin_core::digest::Digest::of(l.blob()));
                }
            }
        }
    }
    println!(
        "{} threads {} wall {:.3} {:.3} ratio {:.3}  cpu {:.3} {:.3} ratio {:.3}",
        a[1],
        threads,
        best[0],
        best[1],
        best[1] / best[0],
        cpu[0],
        cpu[1],
        cpu[1] / cpu[0]
    );
}
