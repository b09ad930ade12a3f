#!/bin/sh
# Makes the training sets of plans/results.yaml from its teachers; from the repository's root:
#     sh projects/RevisitingKD/pseudo_labels.sh [output/revisiting_results] [PYTHON]
# What is finished is not made again.
set -eu
output=${1:-output/revisiting_results}
python=${2:-.venv/bin/python}

pseudo_label() {
    "$python" scripts/pseudo_label.py "$@"
}

# label NAME CONFIG TEACHER DATASET [OPTION ...]
label() {
    name=$1 config=$2 teacher=$3 dataset=$4
    shift 4
    pseudo_label generate --config-file "configs/digits/$config.yaml" \
        --weights "$output/$teacher/seed0/model_final.pth" --dataset "$dataset" \
        --output "$output/pseudo/$name" "$@"
}

label train faster_rcnn_teacher teacher digits_train
label unlabeled faster_rcnn_teacher teacher digits_unlabeled
label unlabeled_4x faster_rcnn_teacher teacher digits_unlabeled_4x
label negative faster_rcnn_teacher teacher digits_negative_unlabeled
label train_retinanet retinanet_teacher retinanet_teacher digits_train
label train_20pct faster_rcnn_teacher teacher_20pct digits_train
label train_0to4 faster_rcnn_teacher teacher_0to4 digits_train \
    --classes 0 1 2 3 4 --opts MODEL.ROI_HEADS.NUM_CLASSES 5
label train_5to9 faster_rcnn_teacher teacher_5to9 digits_train \
    --classes 5 6 7 8 9 --opts MODEL.ROI_HEADS.NUM_CLASSES 5
# On the very images whose labels are completed.
label half_5to9 faster_rcnn_teacher teacher_5to9 digits_train_0to4 \
    --classes 5 6 7 8 9 --opts MODEL.ROI_HEADS.NUM_CLASSES 5
# Thresholds per class, chosen on the labels of digits_val.
label val faster_rcnn_teacher teacher digits_val --force

pseudo="$output/pseudo"
pseudo_label calibrate --pseudo "$pseudo/val/pseudo.json" --labels digits_val \
    --output "$pseudo/thresholds.json"
for method in nms wbf; do
    pseudo_label merge "$pseudo/train/pseudo.json" "$pseudo/train_retinanet/pseudo.json" \
        --method $method --output "$pseudo/two_teachers_$method.json"
done
pseudo_label merge "$pseudo/train_0to4/pseudo.json" "$pseudo/train_5to9/pseudo.json" \
    --output "$pseudo/halves.json"
pseudo_label complete --labels digits_train_0to4 --pseudo "$pseudo/half_5to9/pseudo.json" \
    --output "$pseudo/completed.json"
