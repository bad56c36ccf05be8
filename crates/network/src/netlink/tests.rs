use super::*;

/// A small generator (xorshift64*): the same inputs at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: u64) -> usize {
        usize::try_from(self.next() % n).unwrap()
    }
    fn bytes(&mut self, max: u64) -> Vec<u8> {
        (0..self.below(max)).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

type Tree = Vec<(u16, Result<Vec<u8>, Vec<(u16, Vec<u8>)>>)>;

fn random_tree(random: &mut Random) -> Tree {
    (0..random.below(6))
        .map(|_| {
            let kind = u16::try_from(random.below(0x3fff)).unwrap();
            if random.below(3) == 0 {
                let inner =
                    (0..random.below(4)).map(|i| (u16::try_from(i).unwrap(), random.bytes(40))).collect();
                (kind, Err(inner))
            } else {
                (kind, Ok(random.bytes(80)))
            }
        })
        .collect()
}

fn build(tree: &Tree, batch: &mut Batch) {
    batch.message("TEST", "", 77, 0x400, &[], |m| {
        m.fixed(&[1, 2, 3, 4]);
        for (kind, value) in tree {
            match value {
                Ok(bytes) => m.attr(*kind, bytes),
                Err(inner) => m.nest(*kind, |m| {
                    for (kind, bytes) in inner {
                        m.attr(*kind, bytes);
                    }
                }),
            };
        }
    });
}

#[test]
fn what_is_built_is_read_back() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for _ in 0..2000 {
        let trees: Vec<Tree> = (0..1 + random.below(4)).map(|_| random_tree(&mut random)).collect();
        let mut batch = Batch::new();
        for tree in &trees {
            build(tree, &mut batch);
        }
        let read: Vec<Message<'_>> = messages(batch.bytes()).collect();
        assert_eq!(read.len(), trees.len());
        for (i, (message, tree)) in read.iter().zip(&trees).enumerate() {
            assert_eq!((message.kind, message.flags), (77, 0x400 | REQUEST | ACK));
            assert_eq!(message.sequence as usize, i);
            let attrs: Vec<_> = attributes(&message.payload[4..]).collect();
            assert_eq!(attrs.len(), tree.len());
            for ((kind, payload), (want_kind, want)) in attrs.iter().zip(tree) {
                assert_eq!(kind, want_kind);
                match want {
                    Ok(bytes) => assert_eq!(payload, bytes),
                    Err(inner) => {
                        let got: Vec<_> = attributes(payload).map(|(k, p)| (k, p.to_vec())).collect();
                        assert_eq!(&got, inner);
                    }
                }
            }
        }
    }
}

#[test]
fn cut_or_random_input_never_panics() {
    let mut random = Random(99);
    for round in 0..4000 {
        let mut bytes = if round % 2 == 0 {
            random.bytes(300)
        } else {
            let mut batch = Batch::new();
            let tree = random_tree(&mut random);
            build(&tree, &mut batch);
            let cut = random.below(batch.bytes().len() as u64 + 1);
            batch.bytes()[..cut].to_vec()
        };
        if !bytes.is_empty() {
            let at = random.below(bytes.len() as u64);
            bytes[at] ^= 1 << random.below(8);
        }
        for message in messages(&bytes).take(1000) {
            for (_, payload) in attributes(message.payload).take(1000) {
                let _ = attributes(payload).take(100).map(|(k, p)| k as usize + p.len()).sum::<usize>();
                let _ = padded_text(payload);
            }
            crate::rtnl::decode_anything(&message);
            crate::nft::decode_anything(message.payload);
        }
        crate::rtnl::decode_anything(&Message { kind: 16, flags: 0, sequence: 0, payload: &bytes });
        crate::nft::decode_anything(&bytes);
    }
}

#[test]
fn lengths_of_zero_end_the_iteration() {
    assert_eq!(messages(&[0; 64]).count(), 0);
    assert_eq!(attributes(&[0; 64]).count(), 0);
    assert_eq!(attributes(&[1, 0, 1, 0]).count(), 0);
}

#[test]
fn an_attribute_of_64_kib_is_refused() {
    let mut batch = Batch::new();
    batch.message("TEST", "", 1, 0, &[], |m| {
        m.attr(1, &vec![0; 65532]);
    });
    assert!(batch.too_long());
    let error = Socket::here(Protocol::Route).unwrap().execute(&batch).unwrap_err();
    assert_eq!(error.errno(), Some(nix::libc::EMSGSIZE));
}
