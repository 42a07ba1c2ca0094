;; XORs the bytes from $at to $end with a masking key, given as the word whose lowest byte comes first. Tells whether all that
;; comes out is ASCII.
(module
  (memory (export "memory") 2 2)
  (func (export "mask") (param $at i32) (param $end i32) (param $key i32) (result i32)
    (local $keys v128) (local $a v128) (local $b v128) (local $seen v128)
    (local $byte i32) (local $seenBytes i32)
    (local.set $keys (i32x4.splat (local.get $key)))
    (loop $blocks
      (if (i32.le_u (i32.add (local.get $at) (i32.const 32)) (local.get $end))
        (then
          (v128.store (local.get $at) (local.tee $a (v128.xor (v128.load (local.get $at)) (local.get $keys))))
          (v128.store offset=16 (local.get $at)
            (local.tee $b (v128.xor (v128.load offset=16 (local.get $at)) (local.get $keys))))
          (local.set $seen (v128.or (local.get $seen) (v128.or (local.get $a) (local.get $b))))
          (local.set $at (i32.add (local.get $at) (i32.const 32)))
          (br $blocks))))
    (loop $bytes
      (if (i32.lt_u (local.get $at) (local.get $end))
        (then
          (local.set $byte (i32.xor (i32.load8_u (local.get $at)) (i32.and (local.get $key) (i32.const 0xff))))
          (i32.store8 (local.get $at) (local.get $byte))
          (local.set $seenBytes (i32.or (local.get $seenBytes) (local.get $byte)))
          (local.set $key (i32.rotr (local.get $key) (i32.const 8)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $bytes))))
    (i32.eqz (i32.or (i8x16.bitmask (local.get $seen)) (i32.and (local.get $seenBytes) (i32.const 0x80))))))
