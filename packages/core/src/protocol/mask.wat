;; XORs the bytes from $at to $end with a masking key, given as the word whose lowest byte comes first.
(module
  (memory (export "memory") 2 2)
  (func (export "mask") (param $at i32) (param $end i32) (param $key i32)
    (local $keys v128)
    (local.set $keys (i32x4.splat (local.get $key)))
    (loop $blocks
      (if (i32.le_u (i32.add (local.get $at) (i32.const 32)) (local.get $end))
        (then
          (v128.store (local.get $at) (v128.xor (v128.load (local.get $at)) (local.get $keys)))
          (v128.store offset=16 (local.get $at) (v128.xor (v128.load offset=16 (local.get $at)) (local.get $keys)))
          (local.set $at (i32.add (local.get $at) (i32.const 32)))
          (br $blocks))))
    (loop $bytes
      (if (i32.lt_u (local.get $at) (local.get $end))
        (then
          (i32.store8 (local.get $at) (i32.xor (i32.load8_u (local.get $at)) (local.get $key)))
          (local.set $key (i32.rotr (local.get $key) (i32.const 8)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $bytes))))))
